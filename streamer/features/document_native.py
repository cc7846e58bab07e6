"""Encodes the document of a request by compiled code if it is installed, else by Python."""

from collections import Counter
from collections.abc import Mapping
from functools import partial

import numpy as np

from streamer import native
from streamer.features.document import DocumentEncoder
from streamer.features.document_places import places_of
from streamer.features.hashing import canonical, hash64, to_float
from streamer.features.kinds import Bucketised
from streamer.features.side import SideRows
from streamer.features.side_plan import SidePlan


def document_encoder_of(plan: SidePlan, out_of_range: Counter[str]) -> "DocumentEncoder | NativeDocumentEncoder":
    """The encoder of documents by a plan: compiled if compiled code knows all its kinds."""
    is_compiled = native.module is not None and all(isinstance(feature, Bucketised) for feature in plan.bucketised)
    return (NativeDocumentEncoder if is_compiled else DocumentEncoder)(plan, out_of_range)


class NativeDocumentEncoder:
    """Encodes documents one at a time, with the bits of `DocumentEncoder`. Not thread-safe.

    It memoises nothing: compiled code hashes a value in less time than a look-up takes.
    """

    def __init__(self, plan: SidePlan, out_of_range: Counter[str]) -> None:
        assert native.module is not None
        logs = np.empty(sum(feature.log for feature in plan.numeric))
        containers, places = places_of(plan)
        self._document = native.module.Document(
            plan, containers, places, (_hash_of, to_float), (logs, partial(np.log1p, logs, logs)), out_of_range
        )
        self._ids = plan.id_width
        self._floats = len(plan.numeric) + len(plan.indicators)
        self._words = len(plan.folds) - plan.local_crosses + 2

    def encode(self, document: Mapping[str, object], *, denied: bool) -> SideRows:
        """Encodes one document as one row, as `DocumentEncoder.encode`."""
        ids = np.empty((1, self._ids), dtype=np.int32)
        floats = np.empty((1, self._floats), dtype=np.float32)
        words = np.empty((1, self._words), dtype=np.uint64)
        self._document.encode(document, denied, ids, floats, words)
        return SideRows.plain(ids, floats, words)


def _hash_of(value: object) -> int | None:
    text = canonical(value)
    return None if text is None else hash64(text)
