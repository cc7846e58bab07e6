"""Modes `sync` and `async`: variables are on parameter servers, and TensorFlow's graph runtime computes.

Guarantees: a process's gradients enter an update whole or not at all; the death of a worker does not affect the others.
In: a `Run`. Out: checkpoints of the run's variables, tables in shards.
May import: the same as `distributed`, but not `mirrored`.
"""
