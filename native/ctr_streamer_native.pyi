# The twins in Python, in `streamer/features`, say what each class does.

from collections.abc import Sequence
from typing import overload

from streamer.types import I32, U64

__version__: str
API: int

class Digests(Sequence[bytes]):
    def __init__(self, rows: Sequence[bytes], seed: int) -> None: ...
    def __len__(self) -> int: ...
    @overload
    def __getitem__(self, index: int) -> bytes: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[bytes]: ...

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
