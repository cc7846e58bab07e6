"""`python -m sandbox.model_server`: the process. SIGTERM or Ctrl-C ends it gracefully with status 0, twice at once."""

import ctypes
import logging
import os
import signal
import sys
import threading
from collections.abc import Sequence
from importlib.metadata import version
from types import FrameType

from sandbox.model_server.config import read_config
from sandbox.model_server.flags import FlagError, parse_flags
from sandbox.model_server.process import end_with_parent
from sandbox.model_server.runtime import keep_tensorflow_lean
from sandbox.model_server.status import StatusError

_M_TRIM_THRESHOLD = -1
_M_MMAP_THRESHOLD = -3
_LARGEST_FROM_HEAP = 32 * 1024 * 1024


def main(arguments: Sequence[str]) -> int:
    """Run a server to its end and return the exit status: 0 when told to stop, 1 when it cannot serve."""
    try:
        flags = parse_flags(arguments)
    except FlagError as error:
        sys.stderr.write(f"model_server: {error}\n")
        return 1
    if flags.version:
        sys.stdout.write(
            f"ModelServer of ctr-streamer: {version('ctr-streamer')}\nTensorFlow: {version('tensorflow')}\n"
        )
        return 0
    stop = _stop_on_signals()
    end_with_parent()
    _keep_large_messages_on_heap()
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    os.environ.setdefault("CUDA_VISIBLE_DEVICES", "-1")
    logging.basicConfig(level=logging.INFO, stream=sys.stderr, format="%(asctime)s %(levelname)s %(message)s")
    logging.getLogger("tensorflow").setLevel(logging.ERROR)
    keep_tensorflow_lean()
    try:
        configs = read_config(flags)
        # Loads TensorFlow, for which a refusal should not have to wait.
        from sandbox.model_server.server import serve  # noqa: PLC0415

        serve(flags, configs, stop)
    except (StatusError, RuntimeError) as error:
        sys.stderr.write(f"Failed to start server. Error: {error}\n")
        return 1
    return 0


def _stop_on_signals() -> threading.Event:
    stop = threading.Event()

    def on_signal(number: int, _frame: FrameType | None) -> None:
        if stop.is_set():
            os._exit(128 + number)
        stop.set()

    signal.signal(signal.SIGTERM, on_signal)
    signal.signal(signal.SIGINT, on_signal)
    return stop


def _keep_large_messages_on_heap() -> None:
    """glibc maps each large block afresh, page faults included, until it has learnt better; tell it at once."""
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_M_MMAP_THRESHOLD, _LARGEST_FROM_HEAP)
        mallopt(_M_TRIM_THRESHOLD, 16 * _LARGEST_FROM_HEAP)


if __name__ == "__main__":
    status = main(sys.argv[1:])
    sys.stdout.flush()
    sys.stderr.flush()
    # Threads of gRPC and TensorFlow may still be about to end; nothing of theirs is worth waiting for.
    os._exit(status)
