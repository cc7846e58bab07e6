"""Building blocks of models: layers with their variables, for request and candidate.

Guarantees: a part computes the request's share once per request; row 0 of a table is padding and starts at zero.
In: a feature layout, `ModelInputs`, a `VariableFactory`. Out: tensors.
May import: `layers`, `columns`, `errors`, and from the scorer the feature layout.
"""
