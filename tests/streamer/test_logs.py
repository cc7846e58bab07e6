"""A frequent failure is logged at a limited rate."""

import json
import logging
from collections.abc import Iterator

import pytest
import structlog

from streamer.logs import RateLimit, configure
from streamer.settings.deployment import ServiceSettings


@pytest.fixture(autouse=True)
def _logging_as_it_was() -> Iterator[None]:
    root, ours = logging.getLogger(), logging.getLogger("streamer")
    before = root.handlers[:], root.level, ours.level
    yield
    root.handlers[:], root.level, ours.level = before
    structlog.reset_defaults()


def _line(event: object) -> logging.LogRecord:
    return logging.LogRecord("streamer", logging.WARNING, "", 0, event, (), None)


def test_suppressed_lines_are_counted() -> None:
    now = [0.0]
    limit = RateLimit(lambda: now[0])
    assert sum(limit.filter(_line({"event": "call failed"})) for _ in range(1000)) == 20
    assert limit.filter(_line({"event": "another"}))
    now[0] = 10.0
    event = {"event": "call failed"}
    assert limit.filter(_line(event))
    assert event == {"event": "call failed", "suppressed": 980}
    now[0] = 20.0
    event = {"event": "call failed"}
    assert limit.filter(_line(event))
    assert event == {"event": "call failed"}


def test_many_different_texts_do_not_fill_the_memory() -> None:
    limit = RateLimit(lambda: 0.0)
    assert [limit.filter(_line("call failed")) for _ in range(21)] == [True] * 20 + [False]
    assert all(limit.filter(_line(f"record {n}")) for n in range(1000))
    assert limit.filter(_line("call failed")), "its count was reset with all others"


def test_lines_of_scorer_and_libraries_have_the_same_limit(capsys: pytest.CaptureFixture[str]) -> None:
    log = configure(ServiceSettings())
    for n in range(50):
        log.warning("commit refused", number=n)
        logging.getLogger("aiokafka").error("broker %d is away", n)
    lines = [json.loads(line) for line in capsys.readouterr().err.splitlines()]
    assert [line["number"] for line in lines if line["event"] == "commit refused"] == list(range(20))
    assert [line["event"] for line in lines if "number" not in line] == [f"broker {n} is away" for n in range(20)]


@pytest.mark.parametrize("by", ["a library", "the scorer"])
@pytest.mark.parametrize("lacking", [MemoryError, ValueError])
def test_the_trace_of_a_memory_error_is_the_last_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], by: str, lacking: type[Exception]
) -> None:
    """aiokafka logs it and retries."""
    exits: list[int] = []
    monkeypatch.setattr("os._exit", exits.append)
    log = configure(ServiceSettings())
    error = lacking("of 1 GB")
    if by == "a library":
        logging.getLogger("aiokafka.conn").error("Unexpected exception", exc_info=error)
    else:
        log.error("record failed", exc_info=error)
    first, *rest = (json.loads(line) for line in capsys.readouterr().err.splitlines())
    assert f"{lacking.__name__}: of 1 GB" in first["exception"]
    assert exits == ([1] if lacking is MemoryError else [])
    assert [line["event"] for line in rest] == ["out of memory, this process ends at once"] * len(exits)


@pytest.mark.parametrize("log_format", ["json", "console"])
def test_no_line_controls_the_terminal(capsys: pytest.CaptureFixture[str], log_format: str) -> None:
    log = configure(ServiceSettings.model_validate({"log_format": log_format}))
    log.warning("rejected\x1b[2J", error="\x1b]0;pwned\x07", detail="a \x9b31m b", at=["\x1b[3m"])
    logging.getLogger("aiokafka").error("broker says %s", "\x1b[31m")
    written = capsys.readouterr().err
    assert len(written.splitlines()) == 2
    assert written.replace("\n", "").isprintable()
