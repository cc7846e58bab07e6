"""Labelled impressions: click logs, encoded examples, TFRecord shards with a manifest.

Guarantees: a folder with a manifest is complete; each shard has a checksum; records of another spec are rejected.
In: click logs, folders of records. Out: `Examples` in memory, `tf.data` batches, manifests.
May import: `config`, `errors`, and from the scorer the feature encoding.
"""
