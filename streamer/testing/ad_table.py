"""A table of ads in memory, for encoders without a topic."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from streamer.ads import FoundAds, RowForm, Rows, TablePosition


class FakeAds:
    """A table that holds what `put` gives it; each change moves its position by one."""

    def __init__(self, form: RowForm, topic: str = "ads") -> None:
        self._form = form
        self._rows: dict[str, Rows] = {}
        self.position = TablePosition(topic, (0,))

    def put(self, ads: Mapping[str, Mapping[str, Any]]) -> None:
        """Adds or changes ads, by their ids."""
        self._rows.update((ad_id, self._form.encode([ad])) for ad_id, ad in ads.items())
        self._move(len(ads))

    def delete(self, ad_id: str) -> None:
        """Removes an ad."""
        self._rows.pop(ad_id, None)
        self._move(1)

    def lookup(self, ad_ids: Sequence[str]) -> FoundAds:
        """The rows of these ads."""
        known = np.array([ad_id in self._rows for ad_id in ad_ids], dtype=np.bool_)
        rows = np.zeros(len(ad_ids), self._form.dtype)
        for i, ad_id in enumerate(ad_ids):
            if known[i]:
                rows[i] = self._rows[ad_id][0]
        return FoundAds(rows, known, self.position)

    def _move(self, changes: int) -> None:
        (offset,) = self.position.offsets
        self.position = TablePosition(self.position.topic, (offset + changes,))
