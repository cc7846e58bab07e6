"""The whole way on real parts: Kafka, the scorer as a process, the model server, a trained graph."""
