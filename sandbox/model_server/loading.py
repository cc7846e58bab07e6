"""Loads one version, with tensorflow_model_server's retries and warm-up."""

import logging
import time
from dataclasses import dataclass
from pathlib import Path

from sandbox.model_server.batching import BatchThreads
from sandbox.model_server.batching_parameters import model_batching
from sandbox.model_server.flags import ServerFlags
from sandbox.model_server.monitoring import WARMUP_LATENCY, ServerMetrics
from sandbox.model_server.servable import Servable, ServableId, load
from sandbox.model_server.status import StatusError, failed_precondition
from sandbox.model_server.warmup import warm_up

_log = logging.getLogger(__name__)


@dataclass(slots=True)
class Load:
    """A load of the version in folder `path`; `cancelled` ends it before its next try."""

    id: ServableId
    path: Path
    cancelled: bool = False


def load_with_retries(wanted: Load, flags: ServerFlags, threads: BatchThreads, metrics: ServerMetrics) -> Servable:
    """Tries until a try succeeds or the retries are used up.

    As in tensorflow_model_server a cancelled load still waits to the end of its interval, and a file in place of the
    folder is not tried again. Raises `StatusError`: the reason of the last try.
    """
    if wanted.path.is_file():
        error = failed_precondition(
            f"Error while attempting to reserve resources to load servable {wanted.id}: {wanted.path}; Not a directory"
        )
        _log.error("%s", error)
        raise error
    retries_left = flags.max_num_load_retries
    while True:
        try:
            return _load_once(wanted, flags, threads, metrics)
        except StatusError as failure:
            _log.error("Servable: %s load failure: %s", wanted.id, failure)
            if retries_left > 0:
                time.sleep(max(flags.load_retry_interval_micros, 0) / 1e6)
            if retries_left <= 0 or wanted.cancelled:
                raise
            retries_left -= 1


def _load_once(wanted: Load, flags: ServerFlags, threads: BatchThreads, metrics: ServerMetrics) -> Servable:
    started = time.monotonic()
    batching = model_batching(flags, wanted.path)
    with metrics.load(str(wanted.path)):
        servable = load(wanted.id, wanted.path, flags, batching, threads, metrics=metrics)
    if flags.enable_model_warmup:
        try:
            warmed = time.perf_counter()
            if warm_up(servable, wanted.path, flags.num_request_iterations_for_warmup):
                microseconds = (time.perf_counter() - warmed) * 1e6
                metrics.observe(WARMUP_LATENCY, str(wanted.path), "OK", value=microseconds)
        except BaseException:
            servable.close(0.0)
            raise
    _log.info("Successfully loaded servable version %s in %.3f s", wanted.id, time.monotonic() - started)
    return servable
