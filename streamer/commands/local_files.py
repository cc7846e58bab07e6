"""Reads local files: those that the settings name, and those of a command's arguments."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from importlib.util import find_spec
from io import BytesIO
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import orjson

from streamer.distribution import missing_extra
from streamer.errors import ConfigError, StreamerError, shown
from streamer.settings import Settings

_EXPORTER = "opentelemetry.exporter.otlp.proto.grpc"


def check_files(settings: Settings, *, kafka: bool = True) -> None:
    """Reads the certificates, keys, passwords and feature specs.

    Those for the brokers are read if `kafka`.

    Raises:
        ConfigError: one line for each file that is missing or cannot be used, with its setting, and for a package that
            is not installed.
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
    if settings.tracing.enabled and not _is_installed(_EXPORTER):
        lines.append(f"tracing.enabled: {missing_extra(ModuleNotFoundError(name=_EXPORTER))}")
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


class JsonObject(NamedTuple):
    """An object of a file: file and line, its bytes, its fields."""

    where: str
    value: bytes
    fields: dict[str, Any]


def json_lines(path: Path) -> Iterator[JsonObject]:
    """The objects of a file, one a line; blank lines are skipped. `-` is standard input.

    Raises:
        ConfigError: the file cannot be read, or a line is no object; names file and line.
    """
    with opened(path) as lines:
        for number, line in enumerate(lines, start=1):
            if line.strip():
                yield _object(line.strip(), f"{named(path)}:{number}")


def json_objects(path: Path) -> Iterator[JsonObject]:
    """As `json_lines`, or the only object of a file, on however many lines.

    Raises:
        ConfigError: as `json_lines`, or there is no object.
    """
    with opened(path) as file:
        content = file.read().strip()
    if not content:
        raise ConfigError(f"{named(path)}: has no requests: expected one JSON object, or one a line")
    end = content.find(b"\n")
    # orjson takes twelve times a file's bytes to say that it has two documents.
    if end == -1 or not _is_json(content[:end]):
        yield _object(content, named(path))
        return
    for number, line in enumerate(BytesIO(content), start=1):
        if line.strip():
            yield _object(line.strip(), f"{named(path)}:{number}")


def named(path: Path) -> str:
    """A file of a command's arguments, for a person."""
    return "standard input" if str(path) == "-" else str(path)


def _is_json(value: bytes) -> bool:
    try:
        orjson.loads(value)
    except orjson.JSONDecodeError:
        return False
    return True


def _object(value: bytes, where: str) -> JsonObject:
    try:
        fields = orjson.loads(value)
    except orjson.JSONDecodeError as error:
        raise ConfigError(f"{where}: record: not valid JSON: {error}") from None
    if not isinstance(fields, dict):
        raise ConfigError(f"{where}: record: expected an object, got {shown(fields, 40)}")
    return JsonObject(where, value, fields)


def _is_installed(module: str) -> bool:
    try:
        return find_spec(module) is not None
    except ModuleNotFoundError:  # a package that contains it
        return False
