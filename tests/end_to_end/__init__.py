"""The whole system with real parts: Kafka, scorer process, model server, trained graph."""
