"""From logs to training data by Spark: labelled, split by time, encoded as in serving, and counted."""
