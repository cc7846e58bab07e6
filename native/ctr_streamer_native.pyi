# The twins in Python, in `streamer/features`, say what each class does.

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import overload

from streamer.features.document_places import Container
from streamer.features.side_plan import SidePlan
from streamer.types import F32, F64, I32, U64

__version__: str
API: int

class ColumnCutter:
    def __init__(self, seed: int) -> None: ...
    def rows(self, prefix: bytes, columns: Sequence[bytes], ad_id: int) -> tuple[Digests, Rows] | None: ...

class Digests(Sequence[bytes]):
    def __init__(self, rows: Sequence[bytes], seed: int) -> None: ...
    def __len__(self) -> int: ...
    @overload
    def __getitem__(self, index: int) -> bytes: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[bytes]: ...

class Document:
    def __init__(
        self,
        plan: SidePlan,
        containers: Sequence[Container],
        places: Sequence[tuple[int, str]],
        values: tuple[Callable[[object], int | None], Callable[[object], float]],
        logarithms: tuple[F64, Callable[[], object]],
        out_of_range: Counter[str],
    ) -> None: ...
    def encode(self, document: Mapping[str, object], denied: bool, ids: I32, floats: F32, words: U64) -> None: ...

class Pairs:
    def __init__(self, buckets: Sequence[int], bases: Sequence[int]) -> None: ...
    def join(self, request: U64, candidates: U64, ids: I32, keys: U64) -> None: ...

class RowMemo:
    used_bytes: int
    def __init__(self, capacity: int, max_bytes: int) -> None: ...
    def __len__(self) -> int: ...
    def unknown(self, digests: Sequence[bytes]) -> list[int]: ...
    def gather(
        self,
        digests: Sequence[bytes],
        size: int,
        parts: Sequence[tuple[int, int]],
        places: Sequence[int],
        new: Sequence[tuple[bytes, object, int]],
    ) -> tuple[list[bytearray], list[object]]: ...

class Rows:
    def __len__(self) -> int: ...
    def __getitem__(self, index: int) -> bytes: ...
