"""Turns records of the topic into changes of a table. Pure."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from streamer.ads import AdRecord, RowForm, Rows, ad_id_of

Candidate = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Changes:
    """The changes of a batch.

    1. An ad occurs once, with its last good record: after a bad one the former row stays.
    2. Every record is in exactly one of: `records`, superseded by a later record of its ad, `bad`.

    Attributes:
        documents: the candidate of each changed ad; None: the ad is deleted.
        records: the record of each of these ads.
        bad: the other records that change nothing, with the reasons.
    """

    documents: dict[str, Candidate | None] = field(default_factory=dict)
    records: dict[str, AdRecord] = field(default_factory=dict)
    bad: list[tuple[AdRecord, str]] = field(default_factory=list)

    @classmethod
    def of(cls, records: Iterable[AdRecord], form: RowForm) -> "Changes":
        """Reads the records in their order."""
        changes = cls()
        for record in records:
            if record.unreadable is not None:
                changes.bad.append((record, record.unreadable))
                continue
            try:
                ad_id = ad_id_of(record.key)
                document = None if record.value is None else form.document(record.key, record.value)
            except ValueError as error:
                changes.bad.append((record, str(error)))
            else:
                changes.documents[ad_id], changes.records[ad_id] = document, record
        return changes

    @property
    def deleted(self) -> list[str]:
        """The ids of deleted ads."""
        return [ad_id for ad_id, document in self.documents.items() if document is None]

    def encoded(self, form: RowForm) -> tuple[list[str], Rows]:
        """The ids of the n other ads, and their rows, structured [n].

        An ad that cannot be encoded becomes bad.
        """
        changed = {ad_id: document for ad_id, document in self.documents.items() if document is not None}
        rows = self._rows(list(changed.items()), form)
        return [ad_id for ad_id in changed if ad_id in self.documents], rows

    def _rows(self, changed: Sequence[tuple[str, Candidate]], form: RowForm) -> Rows:
        try:
            return form.encode([document for _, document in changed])
        except Exception as error:  # noqa: BLE001  a defect that one ad triggers must not stop the table
            if len(changed) > 1:  # halves: one by one, a thousand ads would block the event loop
                middle = len(changed) // 2
                return np.concatenate([self._rows(changed[:middle], form), self._rows(changed[middle:], form)])
            ((ad_id, _),) = changed
            self.bad.append((self.records.pop(ad_id), f"internal error: {error!r:.200}"))
            del self.documents[ad_id]
            return np.empty(0, form.dtype)
