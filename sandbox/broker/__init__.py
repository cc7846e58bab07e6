"""A Kafka broker for one machine: Apache Kafka, or without Java librdkafka's mock cluster.

Guarantees: a started broker answers requests; no process of it outlives the thread that started it.
In: a data folder, properties, topic names. Out: bootstrap servers. Imports only `host/`.
"""
