"""Scores the candidates of requests, from the cache or in micro-batches, by their deadlines.

Guarantees: `Scores.score` returns by the request's deadline, with priors if no score came; the queue is bounded.
In: encoded requests with a model version and a deadline. Out: scores, their sources, and why scores are missing.
Calls: `predict`, a function that scores one batch. Imports: settings, metrics, types, deadline, errors.
Only `dispatcher` and `scores` use asyncio and metrics; every other module is pure.
"""
