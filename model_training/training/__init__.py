"""Training in one process: optimizers, steps, and the loop around them.

Guarantees: the same records and seed give the same model; a run continues from its last checkpoint.
In: records, a config. Out: a trained model, `TrainResult`.
May import: `early_stopping`, `checkpoints`, `data`, `models`, `parts`, `config`, `errors`.
"""
