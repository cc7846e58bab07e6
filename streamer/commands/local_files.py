"""Reads local files: those that the settings name, and those of a command's arguments."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import BinaryIO

from streamer.errors import ConfigError, StreamerError
from streamer.settings import Settings


def check_files(settings: Settings, *, kafka: bool = True) -> None:
    """Reads the certificates, keys, passwords and feature specs.

    Those for the brokers are read if `kafka`.

    Raises:
        ConfigError: one line for each file that is missing or cannot be used, with its setting.
    """
    # Imported here, so that --help and wrong settings do not wait for gRPC and the Kafka client.
    from streamer.features import FeatureSpec  # noqa: PLC0415
    from streamer.http.endpoint import tls_context as http_tls_context  # noqa: PLC0415
    from streamer.kafka.security import security_options  # noqa: PLC0415
    from streamer.serving.channel import tls_context  # noqa: PLC0415

    lines = [
        *(_wrong("", partial(security_options, settings.kafka)) if kafka else ()),
        *_wrong("", partial(tls_context, settings.predictor)),
        *_wrong("", partial(http_tls_context, settings.http)),
    ]
    for model, path in settings.predictor.spec_files.items():
        lines += _wrong(f"predictor.spec_files.{model}: ", partial(FeatureSpec.from_yaml, path))
    if lines:
        raise ConfigError("\n".join(lines))


def _wrong(setting: str, read: Callable[[], object]) -> Iterator[str]:
    try:
        read()
    except StreamerError as error:
        yield from (f"{setting}{line}" for line in str(error).splitlines())


@contextmanager
def opened(path: Path) -> Iterator[BinaryIO]:
    """A file of a command's arguments, for reading; `-` is standard input.

    Raises:
        ConfigError: it cannot be read.
    """
    try:
        if str(path) == "-":
            yield sys.stdin.buffer
        else:
            with path.open("rb") as file:
                yield file
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror}") from error
