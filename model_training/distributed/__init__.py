"""Training by several processes, and the launcher that runs them on one machine.

Guarantees: each mode makes the update that one process would make of the same batches; a dead process is restarted.
In: `TF_CONFIG`, records, a config. Out: checkpoints of one model.
May import: `training`, `early_stopping`, `checkpoints`, `data`, `models`, `parts`, `config`, `errors`.
"""
