"""`python -m sandbox.model_server`: the process.

SIGTERM, SIGINT and SIGHUP end it at once, as they end tensorflow_model_server: it does not drain.
"""

import ctypes
import logging
import os
import signal
import sys
from collections.abc import Sequence
from importlib.metadata import version

from sandbox.model_server.config import check_flags, read_config
from sandbox.model_server.flags import FlagError, parse_flags, usage, without_effect
from sandbox.model_server.lean_tensorflow import keep_tensorflow_lean
from sandbox.model_server.status import StatusError

_FAILED = 255
# The form of TensorFlow's log.
_LOG_LINE = "%(asctime)s.%(msecs)03d000: %(levelname).1s %(name)s:%(lineno)d] %(message)s"
_M_TRIM_THRESHOLD = -1
_M_MMAP_THRESHOLD = -3
_LARGEST_FROM_HEAP = 32 * 1024 * 1024


def main(arguments: Sequence[str]) -> int:
    """Runs a server to its end. Exit status: 0 after --version, 255 if it cannot serve."""
    try:
        flags, unknown = parse_flags(arguments)
    except FlagError as error:
        sys.stderr.write(f"{error}\n" if str(error) else "")
        sys.stdout.write(usage())
        return _FAILED
    if flags.version:
        sys.stdout.write(
            f"TensorFlow ModelServer: stand-in of ctr-streamer {version('ctr-streamer')}\n"
            f"TensorFlow Library: {version('tensorflow')}\n"
        )
        return 0
    if unknown:
        sys.stdout.write(f"unknown argument: {unknown[0]}\n{usage()}")
        sys.stdout.flush()
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    _keep_large_messages_on_heap()
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    os.environ.setdefault("CUDA_VISIBLE_DEVICES", "-1")
    logging.basicConfig(level=logging.INFO, stream=sys.stderr, format=_LOG_LINE, datefmt="%Y-%m-%d %H:%M:%S")
    logging.getLogger("tensorflow").setLevel(logging.ERROR)
    keep_tensorflow_lean()
    for name in without_effect(flags):
        logging.getLogger(__name__).warning("--%s has no effect in this server", name)
    try:
        check_flags(flags)
        configs = read_config(flags) or ()
        # Imported here: it loads TensorFlow, and a wrong flag should fail before that.
        from sandbox.model_server.server import serve  # noqa: PLC0415

        serve(flags, configs)
    except StatusError as error:
        sys.stderr.write(f"Failed to start server. Error: {error}\n")
        return _FAILED
    return 0


def _keep_large_messages_on_heap() -> None:
    """Makes glibc keep large messages on the heap instead of mapping memory for each of them."""
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_M_MMAP_THRESHOLD, _LARGEST_FROM_HEAP)
        mallopt(_M_TRIM_THRESHOLD, 16 * _LARGEST_FROM_HEAP)


if __name__ == "__main__":
    status = main(sys.argv[1:])
    sys.stdout.flush()
    sys.stderr.flush()
    # Do not wait for threads of gRPC and TensorFlow that still run.
    os._exit(status)
