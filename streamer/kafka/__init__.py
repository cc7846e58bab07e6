"""Kafka: reads records, publishes answers and dead letters, commits offsets.

Guarantees: an offset is committed by `delivery.guarantee`, and the records that a worker holds are bounded.
In: records of the input topic, as `Record`. Out: acknowledged answers and dead letters, and commits.
Imports settings, metrics, tasks, types, deadline and errors. The only package that uses aiokafka.
"""
