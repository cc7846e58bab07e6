"""The whole system with real parts: Kafka, the scorer as a process, the model server, a trained graph."""
