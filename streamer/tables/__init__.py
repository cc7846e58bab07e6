"""Ads from a compacted topic, encoded once per machine, for all workers of the machine.

In: changes of ads and a `RowForm`. Out: an `AdTable`: the encoded rows of the ads that a request names.
A table says up to which position it has read. Never imports other stages; imports no client of Kafka.
"""
