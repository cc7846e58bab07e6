"""Runs a command N times slower: SIGSTOP and SIGCONT stop it for (N - 1) / N of the time.

    python -m benchmarks.slowed --times 5 --after "takes part" -- command …

It slows elapsed time, not CPU time: while the command is stopped, other processes may use its core.
"""

import argparse
import contextlib
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

_RUN_SECONDS = 0.01
_TIMEOUT_SECONDS = 5.0


def main() -> int:
    """Exit status: that of the command, or 128 + n if signal n ended it.

    Prints its running share at the end.
    """
    parser = argparse.ArgumentParser(prog="benchmarks.slowed", description=__doc__)
    parser.add_argument("--times", type=float, required=True, help="factor, more than 1")
    parser.add_argument("--after", default="", help="slow it down only after it has printed a line with these words")
    parser.add_argument("command", nargs="+")
    arguments = parser.parse_args()
    if arguments.times <= 1:
        parser.error("--times: must be more than 1")
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    begin = threading.Event()
    with contextlib.suppress(KeyboardInterrupt), _started(arguments.command) as process:
        follower = threading.Thread(target=_follow, args=(process, arguments.after, begin), daemon=True)
        follower.start()
        begin.wait()
        share = _slow(process, arguments.times)
        follower.join()
        print(f"slowed: ran {share:.3f} of the time", flush=True)
        return process.returncode if process.returncode >= 0 else 128 - process.returncode
    return 128 + signal.SIGTERM


@contextmanager
def _started(command: list[str]) -> Iterator[subprocess.Popen[str]]:
    """The running command; terminated at the end of the block, also if it is stopped."""
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    try:
        yield process
    finally:
        for end in (process.terminate, process.kill):
            end()
            process.send_signal(signal.SIGCONT)
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(_TIMEOUT_SECONDS)


def _follow(process: subprocess.Popen[str], words: str, begin: threading.Event) -> None:
    assert process.stdout is not None
    if not words:
        begin.set()
    for line in process.stdout:
        print(line, end="", flush=True)
        if words in line:
            begin.set()
    begin.set()


def _slow(process: subprocess.Popen[str], times: float) -> float:
    """Slows the process down until it exits; returns the share of the time in which it ran."""
    started = going = time.monotonic()
    ran = 0.0
    while process.poll() is None:
        time.sleep(_RUN_SECONDS)
        process.send_signal(signal.SIGSTOP)
        stopped = time.monotonic()
        # On a busy machine this program wakes late, so the command ran too long: it stays stopped longer for that.
        ran += stopped - going
        time.sleep(max(0.0, started + times * ran - stopped))
        process.send_signal(signal.SIGCONT)
        going = time.monotonic()
    return ran / (going - started) if ran else 1.0


if __name__ == "__main__":
    sys.exit(main())
