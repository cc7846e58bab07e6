"""`streamer run` with a sampler: `python -m benchmarks.sampled_worker FILE`.

SIGUSR2 starts and ends the sampling. FILE then has the CPU seconds of the process and of its main thread while it was
sampled, and the number of samples of each stack of the main thread.
"""

import json
import signal
import sys
import time
from collections import Counter
from pathlib import Path
from types import CodeType, FrameType

_EVERY_S = 0.001
_DEPTH = 14
_ROOT = str(Path(__file__).parents[1]) + "/"


class Sampler:
    """Counts the stacks of the main thread at equal intervals of the CPU time of the process."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._stacks = Counter[tuple[CodeType, ...]]()
        self._process_s = self._thread_s = 0.0
        self._running = False

    def install(self) -> None:
        """Waits for SIGUSR2."""
        signal.signal(signal.SIGUSR2, self._toggle)
        signal.signal(signal.SIGPROF, self._sample)

    def _toggle(self, _: int, __: FrameType | None) -> None:
        sign = 1.0 if self._running else -1.0
        self._process_s += sign * time.process_time()
        self._thread_s += sign * time.thread_time()
        self._running = not self._running
        signal.setitimer(signal.ITIMER_PROF, *(2 * [_EVERY_S if self._running else 0.0]))
        if not self._running:
            self._write()

    def _sample(self, _: int, frame: FrameType | None) -> None:
        stack: list[CodeType] = []
        while frame is not None and len(stack) < _DEPTH:
            stack.append(frame.f_code)
            frame = frame.f_back
        self._stacks[tuple(stack)] += 1

    def _write(self) -> None:
        named = Counter[str]()
        for stack, count in self._stacks.items():
            named[" < ".join(f"{c.co_filename.removeprefix(_ROOT)}:{c.co_qualname}" for c in stack)] += count
        content = {"process_s": self._process_s, "main_thread_s": self._thread_s, "stacks": named}
        partial = self._path.with_suffix(".partial")
        partial.write_text(json.dumps(content))
        partial.replace(self._path)


if __name__ == "__main__":
    Sampler(Path(sys.argv[1])).install()
    sys.argv = ["streamer", "run"]
    from streamer.commands import main

    main()
