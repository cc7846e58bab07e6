"""Paths of the REST API."""

import pytest

from sandbox.model_server.rest_paths import INT64_MAX, Target, is_served, target_of
from sandbox.model_server.status import StatusError


@pytest.mark.parametrize(
    ("method", "path", "target"),
    [
        ("POST", "/v1/models/m:predict", Target("m", None, None, "predict")),
        ("POST", "/v1/models/m/versions/0012:regress", Target("m", 12, None, "regress")),
        ("POST", "/V1/MODELS/m/labels/stable:classify", Target("m", None, "stable", "classify")),
        ("GET", "/v1/models/m?x=1", Target("m?x=1", None, None, "status")),
        ("GET", "/v1/models/m/versions/1/metadata", Target("m", 1, None, "metadata")),
        ("GET", "/v1/models/m/Metadata", Target("m", None, None, "status")),
    ],
)
def test_a_path_names_model_version_and_action(method: str, path: str, target: Target) -> None:
    assert target_of(method, path) == target


@pytest.mark.parametrize(
    "request_line",
    [
        "POST /v1/models/m",
        "POST /v1/models/m:PREDICT",
        "POST /v1/models/m:predict/",
        "POST /v1/models/m:predict?a=1",
        "POST /v1/models/m%3Apredict",
        "POST /v1/models/m/versions/x:predict",
        "POST /v1/models/a/b:predict",
        "GET /v1/models/m:predict",
        "GET /v1/models/m/",
        "HEAD /v1/models/m",
    ],
)
def test_another_path_is_malformed(request_line: str) -> None:
    with pytest.raises(StatusError) as failed:
        target_of(*request_line.split())
    assert failed.value.message == f"Malformed request: {request_line}"


def test_a_version_may_have_any_number_of_digits() -> None:
    assert target_of("GET", f"/v1/models/m/versions/{'0' * 5_000}12").version == 12
    assert (target_of("GET", f"/v1/models/m/versions/{'9' * 5_000}").version or 0) > INT64_MAX


def test_only_v1_is_served() -> None:
    assert is_served("/V1/models")
    assert not any(map(is_served, ("/", "/v1", "/v2/models", "//v1/models")))
