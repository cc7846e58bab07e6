"""Tables with rows that show whose they are, and whether they are whole."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import xxhash

from streamer.ads import Rows
from streamer.tables.reader import Reader
from streamer.tables.store import AdStore
from streamer.tables.writer import Writer
from streamer.types import U64

TOPIC = "ads"
TOPIC_ID = "4f1c7d3a"
MAX_BYTES = 2**20


@dataclass(frozen=True)
class CheckedForm:
    """A `RowForm` whose rows repeat the ad's hash and a version in `words` words."""

    words: int = 20
    fingerprint: str = "0" * 32

    @property
    def dtype(self) -> np.dtype[np.void]:
        return np.dtype([("version", "<u8"), ("owner", "<u8", (self.words,))])

    def document(self, key: bytes | None, value: bytes) -> Mapping[str, Any]:
        raise ValueError("not used by the store")

    def encode(self, documents: Sequence[Mapping[str, Any]]) -> Rows:
        rows = np.zeros(len(documents), self.dtype)
        rows["version"] = [document["version"] for document in documents]
        rows["owner"] = (owners([document["ad_id"] for document in documents]) ^ rows["version"])[:, None]
        return rows


def owners(ids: Sequence[str]) -> U64:
    return np.array([xxhash.xxh3_64_intdigest(ad_id.encode()) for ad_id in ids], dtype=np.uint64)


def rows_of(versions: Mapping[str, int], form: CheckedForm = CheckedForm()) -> Rows:
    return form.encode([{"ad_id": ad_id, "version": version} for ad_id, version in versions.items()])


def versions_in(reader: Reader, ids: Sequence[str]) -> list[int | None]:
    """The versions of these ads' rows, None for an unknown ad; fails if a row is another ad's or not whole."""
    rows, known, _ = reader.lookup(ids)
    whole = (rows["owner"] == (owners(ids) ^ rows["version"])[:, None]).all(axis=1)
    assert (whole | ~known).all(), "a row of another ad, or of two versions"
    return [int(version) if is_known else None for version, is_known in zip(rows["version"], known, strict=True)]


class Clock:
    def __init__(self, now: float = 1000.0) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now


def store_in(
    directory: Path,
    *,
    form: CheckedForm = CheckedForm(),
    topic_id: str = TOPIC_ID,
    max_bytes: int = MAX_BYTES,
    clock: Clock | None = None,
    wall: Clock | None = None,
) -> AdStore:
    return AdStore(
        directory, form, TOPIC, topic_id, max_bytes, clock=clock or Clock(), wall=wall or Clock(1_700_000_000.0)
    )


def opened(store: AdStore) -> Writer:
    writer = store.open_writer()
    assert writer is not None
    for _ in writer.recover():
        pass
    return writer


def writer_of(store: AdStore) -> Writer:
    """A writer whose first load has begun."""
    writer = opened(store)
    if not writer.state.positions:
        writer.begin_load([0], [100])
    return writer


def reader_of(store: AdStore) -> Reader:
    reader = store.open_reader()
    assert reader is not None
    return reader


def put(writer: Writer, versions: Mapping[str, int], deleted: Sequence[str] = (), position: int = 1) -> list[int]:
    rejected = writer.apply(list(versions), rows_of(versions), deleted, [position])
    assert rejected is not None
    return rejected
