"""Measurements on real Kafka. No test depends on a measured value."""
