"""The form of a table's file: where its parts are, and what the header means. Pure."""

import json
import struct
from dataclasses import asdict, dataclass
from enum import IntEnum
from typing import Final, Self

import numpy as np
import xxhash

from streamer.errors import ConfigError

PAGE: Final = 4096
FORMAT: Final = 2
MAX_PARTITIONS: Final = 4096
WAYS: Final = 8
"""Entries of a bucket of the index, 8 bytes each: one cache line."""
DIGEST_BYTES: Final = 16
FIRST_SLOT: Final = 2
"""Entries with the slots 0 and 1 mean empty and tombstone."""

WORDS_AT: Final = PAGE
BANKS_AT: Final = 2 * PAGE
INDEX_AT: Final = BANKS_AT + 4 * 8 * MAX_PARTITIONS

_MAGIC: Final = b"ctrtable"
_PREFIX: Final = struct.Struct("<8sIQ")
_MAX_LOAD: Final = 0.5
# Fuller buckets would send more ads on to the next one, where a look-up is slow.
_LOAD: Final = 0.375
MIN_BUCKETS: Final = 64
"""Of the index of an empty table: one page."""


class Word(IntEnum):
    """Places of the words of the header that change, each one uint64."""

    EPOCH = 0
    """Twice the number of batches; odd while the entries of a batch are switched."""
    READY = 8
    RETIRED = 9
    COUNT = 10
    ALLOCATED = 11
    """Slots whose memory exists."""
    WRITTEN_MS = 12
    """Wall clock of the last batch, in ms."""
    PARTITIONS = 13
    """Two words: the partitions in each of the two banks of positions."""
    TARGETS = 15
    """Partitions of the first load."""
    BUCKETS = 16
    """Of the index in use."""


@dataclass(frozen=True, slots=True)
class Geometry:
    """The sizes of a file.

    The file has a place for an index of each size, from `MIN_BUCKETS` to `buckets`. One of them is in use, so a small
    table has a small index: a look-up touches as few pages as possible.

    Attributes:
        row_bytes: size of a row.
        slots: places for rows, of which the first two are never used.
        buckets: of the largest index; a power of two.
    """

    row_bytes: int
    slots: int
    buckets: int

    @classmethod
    def fit(cls, row_bytes: int, max_bytes: int) -> Self:
        """The most slots that fit into `max_bytes` with a largest index that is at most half full.

        Raises:
            ConfigError: the file is too small for 64 rows.
        """
        best = empty = cls(row_bytes, 0, MIN_BUCKETS)
        while (space := max_bytes - PAGE - empty.slots_at) > 0:
            slots = min(space // empty.slot_bytes, most_ads(empty.buckets))
            if slots > best.slots:
                best = cls(row_bytes, slots, empty.buckets)
            empty = cls(row_bytes, 0, 2 * empty.buckets)
        if best.slots < 64:
            msg = f"ads.max_bytes: {max_bytes} bytes are too few for rows of {row_bytes} bytes; raise it"
            raise ConfigError(msg)
        return best

    @property
    def slot_bytes(self) -> int:
        """Digest and row, aligned to 8 bytes."""
        return DIGEST_BYTES + -(-self.row_bytes // 8) * 8

    @property
    def slots_at(self) -> int:
        """Where the slots begin."""
        return index_span(self.buckets)[1]

    @property
    def file_bytes(self) -> int:
        """Size of the whole file, in whole pages."""
        return -(-self.end_of(self.slots) // PAGE) * PAGE

    def end_of(self, slots: int) -> int:
        """Where the first `slots` slots end."""
        return self.slots_at + slots * self.slot_bytes

    def buckets_for(self, ads: int) -> int:
        """Of the index for so many ads: the smallest that is not too full, or the largest."""
        buckets = MIN_BUCKETS
        while buckets < self.buckets and ads > buckets * WAYS * _LOAD:
            buckets *= 2
        return buckets

    def slot_dtype(self, row: np.dtype[np.void]) -> np.dtype[np.void]:
        """The dtype of a slot with rows of this dtype."""
        return np.dtype(
            {
                "names": ["digest", "row"],
                "formats": [(np.uint64, (2,)), row],
                "offsets": [0, DIGEST_BYTES],
                "itemsize": self.slot_bytes,
            }
        )

    def row_dtype(self, row: np.dtype[np.void]) -> np.dtype[np.void]:
        """The dtype of a slot with the fields of a row of this dtype, without the digest."""
        fields = row.fields
        assert fields is not None, "structured"
        return np.dtype(
            {
                "names": list(fields),
                "formats": [part for part, *_ in fields.values()],
                "offsets": [DIGEST_BYTES + offset for _, offset, *_ in fields.values()],
                "itemsize": self.slot_bytes,
            }
        )


def index_span(buckets: int) -> tuple[int, int]:
    """Where the index with so many buckets begins and ends, behind all smaller ones."""
    size = WAYS * 8
    return INDEX_AT + (buckets - MIN_BUCKETS) * size, INDEX_AT + (2 * buckets - MIN_BUCKETS) * size


def most_ads(buckets: int) -> int:
    """The most ads in an index."""
    return int(buckets * WAYS * _MAX_LOAD)


@dataclass(frozen=True, slots=True)
class Identity:
    """What a table contains: the rows of one form, of one topic."""

    topic: str
    topic_id: str
    fingerprint: str

    @property
    def name(self) -> str:
        """A name for its folder: tables of other topics, forms or formats have other names."""
        text = json.dumps([FORMAT, self.topic, self.topic_id, self.fingerprint])
        readable = "".join(c if c.isalnum() or c in "._-" else "_" for c in self.topic[:64])
        return f"{readable}-{xxhash.xxh3_128_hexdigest(text.encode())}"


def pack(identity: Identity, geometry: Geometry) -> bytes:
    """The first page of a file."""
    text = json.dumps({"format": FORMAT, **asdict(identity), **asdict(geometry)}).encode()
    return _PREFIX.pack(_MAGIC, len(text), xxhash.xxh3_64_intdigest(text)) + text


def unpack(page: bytes) -> tuple[Identity, Geometry] | None:
    """What `pack` wrote, or None if the page is damaged or has another format."""
    if len(page) < _PREFIX.size:
        return None
    magic, length, checksum = _PREFIX.unpack_from(page)
    text = page[_PREFIX.size : _PREFIX.size + length]
    if magic != _MAGIC or len(text) != length or xxhash.xxh3_64_intdigest(text) != checksum:
        return None
    fields = json.loads(text)
    if fields.pop("format") != FORMAT:
        return None
    geometry = Geometry(*(fields.pop(name) for name in ("row_bytes", "slots", "buckets")))
    return Identity(**fields), geometry


def bank_of(epoch: int) -> int:
    """The bank with the positions that belong to an epoch; the other one may be changing."""
    return (epoch >> 1) & 1
