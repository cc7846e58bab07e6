"""Scores the candidates of bid requests: Kafka in, TensorFlow Serving, Kafka out."""
