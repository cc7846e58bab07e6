"""A Kafka broker for one machine: Apache Kafka if Java and Maven exist, else librdkafka's embedded cluster.

Guarantees: a started broker answers requests; no process of it outlives the thread that started it.
In: a data folder, properties, topic names. Out: bootstrap servers. Imports only `host/`.
"""
