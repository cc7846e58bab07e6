"""Encoded, labelled impressions in memory."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from model_training.data.identities import Identities
from streamer.types import F32, I8, I32


@dataclass(frozen=True, slots=True)
class Examples:
    """n impressions, encoded as flat rows.

    Attributes:
        ids, floats: int32 [n, layout.row_ids] and float32 [n, layout.row_floats].
        labels: int8 [n], 1 for a click.
        identities: None if they are not known: of columns, or of records of an older version.
    """

    ids: I32
    floats: F32
    labels: I8
    identities: Identities | None = None

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, rows: slice | npt.NDArray[np.intp]) -> "Examples":
        """Some of the impressions."""
        identities = None if self.identities is None else self.identities[rows]
        return Examples(self.ids[rows], self.floats[rows], self.labels[rows], identities)


def joined(parts: Sequence[Examples], row_ids: int, row_floats: int) -> Examples:
    """Concatenates the parts; without parts, the result has no rows and the given widths."""
    if not parts:
        return Examples(
            np.empty((0, row_ids), np.int32),
            np.empty((0, row_floats), np.float32),
            np.empty(0, np.int8),
        )
    identities = [part.identities for part in parts if part.identities is not None]
    return Examples(
        np.concatenate([part.ids for part in parts]),
        np.concatenate([part.floats for part in parts]),
        np.concatenate([part.labels for part in parts]),
        Identities.joined(identities) if len(identities) == len(parts) else None,
    )
