"""The lineage of a version: the config, data, code and machine that made its model.

Guarantees: the record appears together with its version; a version of an older program has none, which is no error.
In: a run's config, records and work. Out: `Lineage`, a JSON file in the version that TensorFlow Serving ignores.
May import: `identity`, `data`, `config`, `errors`, and from the scorer the feature spec.
"""
