"""Model server and scorer as child processes, and both together with a broker.

Guarantees: every wait is bounded, an error has the tail of the log, no process outlives its context or its parent.
In: settings, base paths, log paths. Out: addresses, metrics, exit statuses. Imports `broker/`, the flags of
`model_server/`, and `host/`.
"""
