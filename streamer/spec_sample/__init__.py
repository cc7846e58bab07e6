"""A draft of a feature spec from a sample of requests. Pure.

`form` finds the request's own fields, `walk` lists the values of a request by path, `observations` counts them,
`choice` chooses a kind or says why a field is left out, `draft` writes the file. In: lines of JSON. Out: the text of a
spec file that loads, or a `ConfigError` with file, line and field. Imports `features` and `errors`.
"""
