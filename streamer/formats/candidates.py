"""The candidates of a request as the encoder takes them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from streamer.types import ReadRow


@dataclass(frozen=True, slots=True)
class Candidates:
    """Candidates as rows or as columns; `BidRequest` describes the three fields."""

    rows: Sequence[bytes] | None = None
    read_row: ReadRow | None = None
    columns: Mapping[str, object] | None = None
