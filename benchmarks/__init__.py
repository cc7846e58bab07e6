"""Timings on real Kafka. They inform; no test depends on them."""
