"""Structured logs on standard error: one JSON object a line, or coloured lines for a console."""

import logging
import sys

import structlog
from structlog.typing import FilteringBoundLogger

from streamer.settings import ServiceSettings


def configure(settings: ServiceSettings) -> FilteringBoundLogger:
    """Sets up structlog and sends the libraries' own logs (aiokafka's, aiohttp's) the same way. Returns a logger."""
    shared: list[structlog.typing.Processor] = [
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.format_exc_info,
    ]
    renderer: structlog.typing.Processor = (
        structlog.processors.JSONRenderer()
        if settings.log_format == "json"
        else structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty())
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[structlog.stdlib.add_logger_name, *shared],
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, renderer],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    level = getattr(logging, settings.log_level.upper())
    # Libraries at warning unless everything is asked for: aiokafka logs each of its steps at info.
    root.setLevel(level if settings.log_level == "debug" else max(level, logging.WARNING))
    logging.getLogger("streamer").setLevel(level)
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=structlog.stdlib.LoggerFactory(),
        cache_logger_on_first_use=False,
    )
    logger: FilteringBoundLogger = structlog.get_logger("streamer")
    return logger
