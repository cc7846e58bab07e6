"""Versions, labels, calls and threads of model servers."""

from collections.abc import Mapping

import pytest

from streamer.diagnosis.facts import ModelFacts, Roles, VersionState
from streamer.diagnosis.servers import model_findings, thread_finding


def states(text: str) -> list[VersionState]:
    """Versions from words such as `3:AVAILABLE`; `4:END:why` is one with an error."""
    parts = [word.split(":") for word in text.split()]
    return [VersionState(int(part[0]), part[1], *part[2:]) for part in parts]


def found(text: str, pinned: Mapping[str, int] | None = None) -> list[tuple[str, str]]:
    """Severity and reason of each finding of one server with these versions."""
    facts = {"one:8500": ModelFacts(states(text))}
    return [(f.severity, f.reason) for f in model_findings("ctr", facts, Roles(pinned or {}))]


@pytest.mark.parametrize("text", ["3:AVAILABLE", "3:AVAILABLE 2:AVAILABLE 1:END", "3:AVAILABLE 2:AVAILABLE"])
def test_good_versions_have_no_finding(text: str) -> None:
    assert found(text, {"label stable": 3}) == []


@pytest.mark.parametrize(
    ("text", "severity", "words"),
    [
        ("3:AVAILABLE 4:END:11_truncated", "error", "version 4 is END: 11_truncated"),
        ("3:AVAILABLE 4:LOADING", "warning", "5 retries of 60 s"),
        ("3:AVAILABLE 2:END", "warning", "keeps one version (2 was unloaded): no ramp, no rollback"),
        ("4:AVAILABLE 3:AVAILABLE 2:AVAILABLE 1:AVAILABLE", "warning", "4 versions are in memory"),
        ("3:END", "error", "no version is AVAILABLE"),
        ("", "error", "no version is AVAILABLE"),
    ],
)
def test_bad_versions_are_named(text: str, severity: str, words: str) -> None:
    ((seen, reason),) = found(text)
    assert seen == severity
    assert words in reason


def test_a_pinned_version_that_the_policy_has_removed_or_will_remove() -> None:
    ((severity, reason),) = found("5:AVAILABLE 4:AVAILABLE 3:END", {"pinned": 3})
    assert (severity, reason) == ("error", "pinned version 3 is not AVAILABLE; the server has 4, 5")
    ((severity, reason),) = found("5:AVAILABLE 4:AVAILABLE 3:END", {"pinned": 4})
    assert (severity, reason.partition(":")[0]) == ("warning", "the next version removes pinned version 4")
    assert found("5:AVAILABLE 4:AVAILABLE", {"pinned": 4}) == [], "no version was ever removed"


def test_a_label_that_leads_nowhere_and_a_server_without_status() -> None:
    servers = {"one:8500": ModelFacts("UNAVAILABLE: refused")}
    errors = [f.reason for f in model_findings("ctr", servers, Roles(label_errors={"stable": "no such label"}))]
    assert errors == ["label stable leads nowhere: no such label", "no status: UNAVAILABLE: refused"]


def test_a_version_on_one_of_two_servers() -> None:
    servers = {"one:8500": ModelFacts(states("3:AVAILABLE 4:AVAILABLE")), "two:8500": ModelFacts(states("3:AVAILABLE"))}
    (finding,) = model_findings("ctr", servers, Roles())
    assert (finding.subject, finding.severity) == ("model ctr at one:8500", "warning")
    assert finding.reason.startswith("version 4 is not AVAILABLE on every server")


@pytest.mark.parametrize(
    "text", ["must have at least one input tensor", "input tensors must have equal 0th-dimension size"]
)
def test_batching_of_all_models_is_recognised_by_its_error(text: str) -> None:
    error = f"INVALID_ARGUMENT: Batching Run() {text}"
    (finding,) = model_findings("ctr", {"one:8500": ModelFacts(states("3:AVAILABLE"), error)}, Roles())
    assert "--enable_batching" in finding.remedy
    loads = {"one:8500": ModelFacts([VersionState(3, "AVAILABLE"), VersionState(4, "END", error)])}
    (finding,) = model_findings("ctr", loads, Roles())
    assert "--enable_batching" in finding.remedy, "its warm-up fails"
    (other,) = model_findings("ctr", {"one:8500": ModelFacts(states("3:AVAILABLE"), "INTERNAL: x")}, Roles())
    assert other.reason == "its calls fail: INTERNAL: x"


def test_rejections_of_a_burst() -> None:
    assert thread_finding("one:8500", {"OK": 9000, "UNAVAILABLE": 1}, 8) is None
    finding = thread_finding("one:8500", {"OK": 426, "RESOURCE_EXHAUSTED": 4424}, 24)
    assert finding is not None
    assert finding.reason.startswith("4424 of 4850 calls of 24 concurrent callers were rejected")
    assert finding.remedy == "set --grpc_max_threads=48 or more"
