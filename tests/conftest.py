"""Fixtures and profiles that all tests may use."""

import pytest
from hypothesis import settings

from sandbox.processes.server_program import ServerProgramError, server_program
from streamer import native

pytest_plugins = ["tests.kafka_fixtures"]

# The same examples in every run, without a deadline, which a busy machine would miss.
settings.register_profile("deterministic", derandomize=True, deadline=None, database=None)
settings.load_profile("deterministic")


def pytest_report_header() -> list[str]:
    """Says which program serves the models, and which hot loops run; a wrong `MODEL_SERVER` is one line."""
    try:
        return [f"model server: {server_program().version}", f"ctr-streamer-native: {native.state}"]
    except ServerProgramError as error:
        raise pytest.UsageError(str(error)) from error
