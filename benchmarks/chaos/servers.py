"""Faults and overload of the model server."""

import time
from collections.abc import Callable
from functools import partial

from benchmarks.chaos.scene import BETWEEN_S, RECOVERY_S, Chaos, delivered, last_unscored
from benchmarks.report import Figure
from sandbox.host.network_faults import Cut
from sandbox.model_server.simulated import Fault, set_fault

_AFTER_S = 8.0
_FAULTS: tuple[Fault, ...] = ("slow", "rows", "nan", "dtype", "refused")
_OVERLOAD = 3.0
_OVERLOAD_S = 60.0
_RESIDENT_MB = 200.0


def model_server(chaos: Chaos) -> list[Figure]:
    """The model server fails in every way; requests are still answered in time, without scores."""
    figures = []
    with chaos.scene("model_server", model_by_proxy=True) as scene:
        server, proxy = scene.server, scene.to_server
        faults: list[tuple[str, Callable[[], object], Callable[[], object]]] = [
            ("killed", server.kill, server.start),
            ("hung", server.pause, server.resume),
            ("reset", partial(proxy.begin, Cut()), partial(proxy.end, Cut())),
        ]
        faults += [
            (fault, partial(set_fault, server.address, fault), partial(set_fault, server.address, "none"))
            for fault in _FAULTS
        ]
        for name, begin, end in faults:
            chaos.bench.console.print(f"model_server: {name}")
            ended = float("nan")

            def fault(begin: Callable[[], object] = begin, end: Callable[[], object] = end) -> None:
                nonlocal ended
                time.sleep(BETWEEN_S)
                begin()
                time.sleep(BETWEEN_S)
                end()
                ended = time.monotonic()
                time.sleep(_AFTER_S)

            report = scene.traffic(fault)
            late = float((report.times.latency_ms > 2 * chaos.settings.budget_ms).sum())
            found = [
                *delivered(report, duplicates=False),
                Figure("marked", report.requests_sent - report.statuses.get("ok", 0), "requests", ">=", 1),
                Figure("later_than_two_budgets", late, "requests"),
                Figure("seconds_to_recover", last_unscored(report, ended), "s", "<=", 5.0),
            ]
            figures += [Figure(f"{name}_{f.name}", f.value, f.unit, f.relation, f.bound) for f in found]
    return figures


def overload(chaos: Chaos) -> list[Figure]:
    """For 60 seconds three times as many requests as the model server can score."""
    with chaos.scene("overload", headroom=1.0) as scene:
        report, resident, _ = scene.watch(_OVERLOAD_S, times_rate=_OVERLOAD)
        recovery = scene.seconds_to_recover(times_rate=0.5)
        clean = scene.scorer.stop() == 0
    return [
        *delivered(report, duplicates=False),
        Figure("resident_at_most", max(resident) / 1e6, "MB", "<=", _RESIDENT_MB),
        Figure("seconds_to_recover", recovery, "s", "<=", RECOVERY_S),
        Figure("clean_end", float(clean), "", ">=", 1),
    ]
