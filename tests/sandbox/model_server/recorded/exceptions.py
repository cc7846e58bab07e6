"""Recorded calls that do not hold on the stand-in, each with its reason."""

from collections.abc import Mapping

EXCEPTIONS: Mapping[str, str] = {
    "r212": "a fault: with --enable_serialization_as_tensor_content the real server answers REST calls with zeros",
}
"""Id of a call → why its answer differs."""

COMPARED_METRICS = (":tensorflow:serving:", ":tensorflow:cc:saved_model:")
"""Prefixes of the metrics that are compared. The others are counted inside TensorFlow's C++ runtime."""
