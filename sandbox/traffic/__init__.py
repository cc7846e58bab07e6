"""Open-loop traffic through a running scorer, and a check of every answer.

Guarantees: requests are sent when they are due, however slow the answers are; each answer gets exactly one verdict.
In: requests and ads of a `world/`, bootstrap servers, topics. Out: a `TrafficReport`. Imports `world/`, `broker/`
(topics) and the scorer's types.
"""
