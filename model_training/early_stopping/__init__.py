"""Early stopping: when a run ends before its last step, and which model it keeps.

Guarantees: one rule (`standing`) for all kinds of runs; the best model on disk is complete whenever the process ends.
In: scores of validation examples. Out: the decision to stop, the best model's checkpoint.
May import: `checkpoints`, `evaluation`, `data`, `models`, `config`, `errors`.
"""
