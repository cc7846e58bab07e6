"""Calls model servers over gRPC or REST, and prepares new model versions.

Guarantees: every call has a timeout; every failure is a PredictError; a score is a number in [0, 1].
In: batches and versions. Out: scores; which versions are AVAILABLE; prepared versions.
Imports: prepared_version, codec, features, settings, metrics, types, errors. No other package imports grpc.
`replicas`, `messages`, `rest_messages` and `flat_signature` are pure. `transport` is what both protocols offer.
"""
