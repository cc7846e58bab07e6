"""One model per file, each a composition of parts and layers on one screen.

Guarantees: no model imports another; every model satisfies the protocol `Model`; `build` is the only list of models.
In: a feature layout and hyperparameters. Out: logits, trainable variables.
May import: `parts`, `layers`, `columns`, `config`.
"""
