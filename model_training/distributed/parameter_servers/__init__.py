"""Modes `sync` and `async`: variables on parameter servers, steps as TensorFlow graphs.

Guarantees: a process's gradients enter an update whole or not at all; the death of a worker does not affect the others.
In: a `Run`. Out: checkpoints of the run's variables, tables in shards.
May import: the same as `distributed`, but not `mirrored`.
"""
