"""How fast this machine is now: the time of a fixed loop of Python and numpy."""

import time

import numpy as np
import numpy.typing as npt

from streamer.types import U64

_TURNS = 15
_PYTHON_STEPS, _ROWS = 60_000, 300_000


def loop_ms(turns: int = _TURNS) -> float:
    """Milliseconds of CPU of the loop, the best of some turns.

    Half of it is Python on small objects, the other half numpy on arrays larger than the first caches, as in a scorer.
    """
    values = np.arange(_ROWS, dtype=np.uint64)
    index = np.random.default_rng(1).permutation(_ROWS)
    return min(_turn_ms(values, index) for _ in range(turns))


def _turn_ms(values: U64, index: npt.NDArray[np.intp]) -> float:
    start = time.process_time()
    words: dict[str, int] = {}
    for i in range(_PYTHON_STEPS):
        word = f"value-{i % 5_000}"
        words[word] = words.get(word, 0) + i
    mixed = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    mixed[index].sum()
    return 1e3 * (time.process_time() - start)
