"""Fixtures and profiles that all tests may use."""

from hypothesis import settings

pytest_plugins = ["tests.kafka_fixtures"]

# The same examples in every run, without a deadline, which a busy machine would miss.
settings.register_profile("deterministic", derandomize=True, deadline=None, database=None)
settings.load_profile("deterministic")
