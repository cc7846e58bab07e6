"""Structured logs on standard error: a JSON object per line, or coloured text for a console."""

import logging
import os
import sys
import time
from collections.abc import Callable
from typing import TextIO

from streamer.settings.deployment import ServiceSettings
from streamer.settings.names import printable

# structlog imports rich, for tracebacks that these logs do not contain: 3 MB in each worker.
_RICH = sys.modules.get("rich")
sys.modules["rich"] = None  # type: ignore[assignment]  # an import of it fails
import structlog  # noqa: E402
from structlog.typing import FilteringBoundLogger  # noqa: E402

del sys.modules["rich"]
if _RICH is not None:
    sys.modules["rich"] = _RICH

_LINES = 20
_PERIOD_S = 10.0
_MAX_EVENTS = 1000
_MAX_EVENT_LENGTH = 200  # libraries put names and data into their texts


class RateLimit(logging.Filter):
    """Limits each event to 20 lines in 10 s, so that a frequent failure does not fill the disk.

    The next line of the event has the number of suppressed lines as `suppressed`. Metrics count all failures.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__()
        self._clock = clock
        self._seen: dict[str, tuple[float, int]] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether the line is written."""
        ours = record.msg if isinstance(record.msg, dict) else None
        event = str(record.msg if ours is None else ours["event"])[:_MAX_EVENT_LENGTH]
        now = self._clock()
        since, lines = self._seen.get(event, (now, 0))
        if now - since >= _PERIOD_S:
            if lines > _LINES and ours is not None:
                ours["suppressed"] = lines - _LINES
            since, lines = now, 0
        if event not in self._seen and len(self._seen) >= _MAX_EVENTS:
            self._seen.clear()  # Many different texts, each of them rare.
        self._seen[event] = since, lines + 1
        return lines < _LINES


class _Handler(logging.StreamHandler[TextIO]):
    """Writes lines. After one with the trace of a MemoryError it ends the process.

    A library that logs such an error instead of raising it has lost a task, and the process would seem healthy.
    """

    def emit(self, record: logging.LogRecord) -> None:
        lacks_memory = isinstance(_error_of(record), MemoryError)
        super().emit(record)
        if lacks_memory:
            try:
                logging.getLogger("streamer").error("out of memory, this process ends at once")
                self.stream.flush()
            finally:
                os._exit(1)

    def flush(self) -> None:
        """Does nothing: a flush of a `LogStream` waits for the reader."""


def _error_of(record: logging.LogRecord) -> BaseException | None:
    found = record.msg.get("exc_info") if isinstance(record.msg, dict) else record.exc_info
    if found is True:
        return sys.exc_info()[1]
    return found[1] if isinstance(found, tuple) else found


def _escape(_: object, __: str, event: structlog.typing.EventDict) -> structlog.typing.EventDict:
    """Texts of records and servers must not control the terminal; JSON escapes them anyway."""
    return {key: printable(value, keep_lines=True) if isinstance(value, str) else value for key, value in event.items()}


def configure(settings: ServiceSettings) -> FilteringBoundLogger:
    """Configures the logs of the scorer and of its libraries alike; returns a logger."""
    shared: list[structlog.typing.Processor] = [
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    renderer: structlog.typing.Processor = (
        structlog.processors.JSONRenderer()
        if settings.log_format == "json"
        else structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty())
    )
    handler = _Handler(sys.stderr)
    handler.addFilter(RateLimit())
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[structlog.stdlib.add_logger_name, *shared],
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                structlog.processors.format_exc_info,
                *([] if settings.log_format == "json" else [_escape]),
                renderer,
            ],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    level = getattr(logging, settings.log_level.upper())
    # Libraries log at warning, except at level debug: aiokafka logs every step at info.
    root.setLevel(level if settings.log_level == "debug" else max(level, logging.WARNING))
    logging.getLogger("streamer").setLevel(level)
    # At debug level it logs every request, which includes passwords and tokens.
    logging.getLogger("aiokafka.conn").setLevel(max(level, logging.INFO))
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=structlog.stdlib.LoggerFactory(),
        cache_logger_on_first_use=False,
    )
    logger: FilteringBoundLogger = structlog.get_logger("streamer")
    return logger
