"""Decides which processes a reload ends next. Pure."""

from collections.abc import Iterable

from streamer.settings.deployment import SupervisorSettings
from streamer.supervision.worker import Worker


def replaceable(
    workers: Iterable[Worker], generation: int, settings: SupervisorSettings, *, is_settled: bool
) -> list[Worker]:
    """Processes with earlier settings that may end now: one for each new one that is ready.

    Args:
        generation: of the present settings.
        is_settled: whether a worker that stays reads every partition, or has tried to open it.
    """
    staying = [w for w in workers if w.is_staying]
    old = [w for w in staying if w.generation < generation]
    starting = [w for w in old if w.phase == "starting"]
    # A standby with earlier settings is the last to go: until then it can replace a worker that dies.
    going = sorted((w for w in old if w.phase != "starting"), key=lambda w: (w.phase, w.number))
    ready = [w for w in staying if w.phase != "starting"]
    # Those that may get partitions at once. Suspect partitions may need all processes; then it is one of these.
    spare = [w for w in ready if w.phase == "standby"] or (ready if len(ready) > settings.active else [])
    if not is_settled or not spare:
        return starting
    if not starting and len(old) == len(staying) > settings.processes:
        # After a second reload within the first one all are old, and one must end before a new one can start.
        return [*starting, *going[-1:]]
    return [*starting, *(going[:1] if any(w.generation == generation for w in spare) else [])]
