"""One equation per file, as functions of tensors and of the variables that they receive.

Guarantees: a layer owns no variables and knows no model. Its docstring has the equation, the shapes and the paper.
In: tensors, variables. Out: tensors.
May import: `columns`.
"""
