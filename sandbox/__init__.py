"""The outside world on one machine: broker, model server, traffic. Nothing in the product imports it."""
