"""Single ads of their topic, as a table had them at a position. Pure."""

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, NamedTuple

from streamer.ads import AdRecord

Document = Callable[[bytes | None, bytes], Mapping[str, Any]]
"""The candidate in a record, or a ValueError with the reason: `RowForm.document`."""


def why_bad(record: AdRecord, document: Document) -> str | None:
    """Why no table takes a record; None if it is valid."""
    if record.unreadable is not None:
        return record.unreadable
    try:
        # Any valid value checks the key of a tombstone.
        document(record.key, b"{}" if record.value is None else record.value)
    except ValueError as error:
        return str(error)
    return None


def shown_key(key: bytes | None) -> str:
    """A record's key as text."""
    return "" if key is None else key.decode(errors="backslashreplace")


class AdState(NamedTuple):
    """An ad at a position.

    Attributes:
        record: its last valid record; None: the topic does not have the ad.
        document: its features; None: deleted, or not in the topic.
        why_unknown: why its features at the position cannot be known; None if they are known.
        bad: a bad record after `record`, with the reason: tables keep the former row.
    """

    record: AdRecord | None
    document: Mapping[str, Any] | None
    why_unknown: str | None = None
    bad: str | None = None


class AdsAt:
    """Some ads as a table had them at a position of its topic.

    `offsets`: the position; None: the end of the topic. Records arrive in the order of each
    partition, from the first one that the topic still has.

    - The features of an ad follow from its last valid record before the position. Compaction removes the older records
      of a key first, so a record that is left is the one that was current.
    - Where records before the position are gone, an ad without a record may have had one: its features are not known.
    """

    def __init__(self, ad_ids: Collection[str], document: Document, offsets: Sequence[int] | None) -> None:
        self._ad_ids, self._document, self._offsets = frozenset(ad_ids), document, offsets
        self._valid: dict[str, dict[int, tuple[AdRecord, Mapping[str, Any] | None]]] = {}
        self._bad: dict[str, dict[int, str]] = {}
        self._later: dict[str, AdRecord] = {}
        self._seen: dict[int, int] = {}

    def add(self, record: AdRecord) -> None:
        """Reads a record."""
        is_later = self._offsets is not None and record.offset >= self._end(record.partition)
        if not is_later:
            self._seen[record.partition] = self._seen.get(record.partition, 0) + 1
        ad_id = shown_key(record.key)
        if ad_id not in self._ad_ids:
            return
        if is_later:
            self._later.setdefault(ad_id, record)
        elif (reason := why_bad(record, self._document)) is not None:
            bad = f"its record {record.partition}:{record.offset} is bad ({reason}); tables keep the former one"
            self._bad.setdefault(ad_id, {})[record.partition] = bad
        else:
            document = None if record.value is None else self._document(record.key, record.value)
            self._valid.setdefault(ad_id, {})[record.partition] = record, document
            self._bad.get(ad_id, {}).pop(record.partition, None)

    def state(self, ad_id: str) -> AdState:
        """The state of one of the ads."""
        found, bad = self._valid.get(ad_id, {}), next(iter(self._bad.get(ad_id, {}).values()), None)
        gap = None if self._offsets is None else self._gap()
        if len(found) > 1:
            places = ", ".join(f"{record.partition}:{record.offset}" for record, _ in found.values())
            record, document = max(found.values(), key=lambda each: each[0].timestamp_ms)
            return AdState(record, document, f"it has records in several partitions ({places})", bad)
        if not found:
            if gap is not None:
                later = self._later.get(ad_id)
                left = "it has no record" if later is None else f"its first record is {later.partition}:{later.offset}"
                return AdState(None, None, f"{left}, and {gap}", bad)
            return AdState(None, None, None, bad)
        ((record, document),) = found.values()
        return AdState(record, document, None if gap is None else bad, bad)

    def _end(self, partition: int) -> int:
        assert self._offsets is not None
        return self._offsets[partition] if partition < len(self._offsets) else 0

    def _gap(self) -> str | None:
        """A partition that has lost records before the position."""
        for partition, end in enumerate(self._offsets or ()):
            lost = end - self._seen.get(partition, 0)
            if lost:
                return f"{lost} of the {end} records before the position are gone from partition {partition}"
        return None
