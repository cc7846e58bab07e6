"""Click logs: JSON lines, one per request, with its candidates and their labels.

    {"timestamp_ms": 0, "request": {"user": {…}, "context": {…}}, "candidates": [{"ad_id": …, …}], "clicked": [0]}

A line can have `weights`, one number for each candidate.

A log contains only candidates that were shown: the others are not negatives. Lines are ordered by time.
"""

import gzip
import hashlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import IO, Any, cast

import numpy as np
import orjson

from model_training.data.examples import MAX_WEIGHT, Examples
from model_training.data.identities import Identities, IdHasher
from model_training.errors import ConfigError, DataError
from streamer.features import Encoder, SpecError
from streamer.features.consent import ConsentCheck
from streamer.features.coverage import Coverage
from streamer.features.paths import Getter, getter

_GZIP_MAGIC = b"\x1f\x8b"


@dataclass(frozen=True, slots=True)
class LoggedRequest:
    """One line of a log: the request, its candidates, and whether each was clicked.

    `line` is its number from 1; `weights` are those of the candidates, if the log has some.
    """

    timestamp_ms: int
    request: dict[str, object]
    candidates: list[dict[str, object]]
    clicked: list[int]
    line: int = 0
    weights: list[float] | None = None


@dataclass(frozen=True, slots=True)
class LogPart:
    """Some lines of a log: checksum of their bytes, counts, times of the first and the last.

    Without lines the times are None.
    """

    sha256: str
    examples: int
    clicks: int
    first_ms: int | None
    last_ms: int | None


def log_parts(path: Path, cuts: Sequence[int]) -> list[LogPart]:
    """The lines from each of the rising `cuts`, counted from 0, up to the next one or the end.

    Raises:
        DataError: a line is invalid, or the file cannot be read.
    """
    with _reading(path) as lines:
        numbered = enumerate(lines, start=1)
        for _ in islice(numbered, cuts[0]):
            pass
        ends: list[int | None] = [*cuts[1:], None]
        return [
            _described(path, islice(numbered, None if end is None else end - start))
            for start, end in zip(cuts, ends, strict=True)
        ]


def _described(path: Path, lines: Iterator[tuple[int, bytes]]) -> LogPart:
    digest, examples, clicks = hashlib.sha256(), 0, 0
    first = last = None
    for number, line in lines:
        digest.update(line)
        if not line.strip():
            continue
        logged = _parse(f"{path}:{number}", line)
        examples, clicks = examples + len(logged.clicked), clicks + sum(logged.clicked)
        first, last = logged.timestamp_ms if first is None else first, logged.timestamp_ms
    return LogPart(digest.hexdigest(), examples, clicks, first, last)


def count_lines(path: Path) -> int:
    """Number of lines of a log, compressed or not.

    Raises:
        DataError: the file cannot be read.
    """
    with _reading(path) as lines:
        return sum(1 for _ in lines)


def read_log(path: Path, *, first: int = 0, last: int | None = None) -> Iterator[LoggedRequest]:
    """The requests on lines [first, last) of a log, counted from 0; blank lines are skipped.

    Raises:
        DataError: a line is invalid; names file, line (counted from 1) and field. Also if a line is earlier than the
            line before it, even if that one is before `first`: a cut by lines must be a cut by time.
    """
    start, before, weighted = max(first - 1, 0), None, None
    with _reading(path) as lines:
        for number, line in enumerate(islice(lines, start, last), start + 1):
            if not line.strip():
                continue
            logged = replace(_parse(f"{path}:{number}", line), line=number)
            if before is not None and logged.timestamp_ms < before:
                raise DataError(
                    f"{path}:{number}: timestamp_ms: {logged.timestamp_ms} is earlier than {before} of the line before:"
                    " a log must be in order of time"
                )
            if weighted not in (None, logged.weights is not None):
                raise DataError(f"{path}:{number}: weights: either all lines of a log have them, or none")
            before, weighted = logged.timestamp_ms, logged.weights is not None
            if number > first:
                yield logged


def encode_log(
    requests: Iterator[LoggedRequest],
    encoder: Encoder,
    *,
    user_path: str | None = None,
    coverage: Coverage | None = None,
    chunk: int = 4096,
) -> Iterator[Examples]:
    """Encodes impressions in blocks of at least `chunk`; the last block may be smaller.

    Args:
        user_path: path of the user's id in a request, such as `user.id`; a request that denies consent has no user.
        coverage: counts the values of the requests and of their candidates.

    Raises:
        ConfigError: `user_path` is no path.
    """
    user_of, hashed = _user_getter(encoder, user_path), IdHasher()
    documents: list[dict[str, object]] = []
    candidates: list[dict[str, object]] = []
    clicked: list[int] = []
    shown: list[int] = []
    lines: list[int] = []
    times: list[int] = []
    weights: list[float] = []

    def encoded() -> Examples:
        identities = Identities(
            np.repeat(hashed([user_of(document) for document in documents]), shown),
            np.repeat(np.array(lines, dtype=np.uint64), shown),
            np.repeat(np.array(times, dtype=np.int64), shown),
        )
        if coverage is not None:
            coverage.paths["request"].look_at(documents)
            coverage.paths["candidate"].look_at(candidates)
        ids, floats = encoder.encode_log(documents, candidates, shown, coverage)
        counting = np.array(weights, dtype=np.float32) if weights else None
        return Examples(ids, floats, np.array(clicked, dtype=np.int8), identities, counting)

    for logged in requests:
        documents.append(logged.request)
        candidates += logged.candidates
        clicked += logged.clicked
        shown.append(len(logged.candidates))
        lines.append(logged.line)
        times.append(logged.timestamp_ms)
        weights += logged.weights or ()
        if len(clicked) >= chunk:
            yield encoded()
            documents, candidates, clicked, shown, lines, times, weights = [], [], [], [], [], [], []
    if clicked:
        yield encoded()


def _user_getter(encoder: Encoder, path: str | None) -> Getter:
    if path is None:
        return lambda _: None
    try:
        get = getter(path)
    except SpecError as error:
        raise ConfigError(f"the user's {error}") from None
    consent = ConsentCheck(encoder.spec.denial_rules)
    return lambda document: None if consent.denies(document) else get(document)


@contextmanager
def _reading(path: Path) -> Iterator[IO[bytes]]:
    """Opens a file, compressed or not; an error while it is open becomes a `DataError`."""
    try:
        with path.open("rb") as file:
            compressed = file.read(len(_GZIP_MAGIC)) == _GZIP_MAGIC
        with gzip.open(path) if compressed else path.open("rb") as lines:
            yield cast(IO[bytes], lines)
    except (OSError, EOFError) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        raise DataError(f"{path}: cannot be read: {reason}") from error


def _parse(where: str, line: bytes) -> LoggedRequest:
    try:
        content = orjson.loads(line)
    except orjson.JSONDecodeError as error:
        raise DataError(f"{where}: not valid JSON: {error}") from None
    if not isinstance(content, dict):
        raise DataError(f"{where}: expected an object, got {_shown(content)}")
    timestamp, request = content.get("timestamp_ms"), content.get("request")
    candidates, clicked = content.get("candidates"), content.get("clicked")
    if not isinstance(timestamp, int) or isinstance(timestamp, bool) or abs(timestamp) >= 2**63:
        raise DataError(f"{where}: timestamp_ms: expected an integer, got {_shown(timestamp)}")
    if not isinstance(request, dict):
        raise DataError(f"{where}: request: expected an object, got {_shown(request)}")
    if not isinstance(candidates, list):
        raise DataError(f"{where}: candidates: expected a list, got {_shown(candidates)}")
    for i, candidate in enumerate(candidates):
        if not isinstance(candidate, dict):
            raise DataError(f"{where}: candidates[{i}]: expected an object, got {_shown(candidate)}")
    if not isinstance(clicked, list) or len(clicked) != len(candidates):
        raise DataError(
            f"{where}: clicked: expected a list as long as candidates ({len(candidates)}), got {_shown(clicked)}"
        )
    for i, label in enumerate(clicked):
        if label is not True and label is not False and (type(label) is not int or label not in (0, 1)):
            raise DataError(f"{where}: clicked[{i}]: expected 0 or 1, got {_shown(label)}")
    weights = _weights(where, content.get("weights"), len(candidates))
    return LoggedRequest(timestamp, request, candidates, [int(label) for label in clicked], weights=weights)


def _weights(where: str, weights: Any, candidates: int) -> list[float] | None:
    if weights is None:
        return None
    if not isinstance(weights, list) or len(weights) != candidates:
        raise DataError(
            f"{where}: weights: expected a list as long as candidates ({candidates}), got {_shown(weights)}"
        )
    for i, weight in enumerate(weights):
        if type(weight) not in (int, float) or not 0 < weight <= MAX_WEIGHT:
            raise DataError(
                f"{where}: weights[{i}]: expected a number above 0 and at most {MAX_WEIGHT:,.0f}, got {_shown(weight)}"
            )
    return weights


def _shown(value: object) -> str:
    if value is None:
        return "nothing"
    try:
        text = repr(value)
    except RecursionError:
        return "a value nested too deeply"
    return text if len(text) <= 40 else text[:37] + "..."
