"""Public data through a real scorer: the Avazu click log, and raw bid requests.

Guarantees: every record is followed to its answer or dead letter. In: files of `CTR_DATA`. Out: reports with a verdict.
Imports `processes/`, `traffic/`, `world/` and `broker/`.
"""
