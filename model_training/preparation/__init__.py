"""Training data from raw logs, by Spark: labelled, split by time, encoded as in serving.

Guarantees: the output folder appears whole or not at all; a row that cannot be used is counted by its reason.
In: a log (table or topics) and a `PrepareConfig`. Out: a folder of records with a manifest.
May import: `data`, `config`, `runtime`, `errors`, and from the scorer the feature encoding.
"""
