"""The studies of `docs/capacity.md`: each returns the rows of its table."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from benchmarks.simulation.costs import Costs
from benchmarks.simulation.fleet import Fault, Setup, simulate
from benchmarks.simulation.outcome import Outcome
from benchmarks.simulation.partitions import imbalance, owners, partition_shares, user_shares
from benchmarks.simulation.sizing import servers_for, size_of

Table = Sequence[Sequence[str]]
"""Rows of a table, the header first."""
LOAD = 0.5
"""Usual load of a worker, as a share of its capacity."""
_SKIP_S = 0.5
_SERVER_CORES = 4
_PARTITIONS = 4
"""Of each worker."""
_USERS = 10_000_000


@dataclass(frozen=True, slots=True)
class Scale:
    """How much a study simulates: seconds of traffic, sizes of fleets, workers of a cell."""

    seconds: float = 3.0
    fault_seconds: float = 8.0
    fleets: Sequence[int] = (1, 3, 10, 30, 100)
    cell_workers: int = 10
    loads: Sequence[float] = (0.2, 0.4, 0.5, 0.6, 0.8, 1.0, 1.2, 1.4, 1.7, 2.0)


QUICK = Scale(seconds=0.8, fault_seconds=1.2, fleets=(1,), cell_workers=2, loads=(0.3, 0.6))
"""A few seconds in all; its figures only show that the command works."""


def setup_of(costs: Costs, scale: Scale, load: float, cells: int = 1) -> Setup:
    """Cells whose model servers are about as busy as their workers."""
    workers = scale.cell_workers
    return Setup(
        rate=load * cells * workers * costs.worker_rate,
        cells=cells,
        cell_workers=workers,
        cell_servers=max(2, servers_for(costs, workers, _SERVER_CORES)),
        server_cores=_SERVER_CORES,
        partitions=_PARTITIONS * cells * workers,
        seconds=scale.seconds,
        candidates=costs.candidates,
    )


def loads(costs: Costs, scale: Scale) -> Table:
    """One cell under rising load: the resource that is full first, and the times."""
    rows = [["load of a worker", *_COLUMNS, "requests per call"]]
    for load in scale.loads:
        found = simulate(setup_of(costs, scale, load), costs)
        rows.append([f"{load:.0%}", *_figures(found, scale), f"{len(found.sent) / found.calls:.1f}"])
    return rows


def fleets(costs: Costs, scale: Scale) -> Table:
    """Fleets of growing size at the usual load, with equal and with skewed users."""
    rows = [["workers", "Zipf exponent", "requests/s", "hottest worker over mean", *_COLUMNS]]
    for cells in scale.fleets:
        for exponent in (0.0, 0.5):
            # The largest fleets for a shorter time.
            short = replace(scale, seconds=min(scale.seconds, max(0.8, 20 / cells)))
            setup = replace(setup_of(costs, short, LOAD, cells), exponent=exponent, users=_USERS)
            found = simulate(setup, costs)
            hottest = float(found.worker_used.max() / found.worker_used.mean())
            rows.append(
                [
                    f"{setup.workers:,}",
                    f"{exponent:g}",
                    f"{setup.rate:,.0f}",
                    f"{hottest:.2f}",
                    *_figures(found, short),
                ]
            )
    return rows


def skew(_: Costs, scale: Scale) -> Table:
    """The load of the hottest worker over the mean, by partitions per worker."""
    each = (1, 1.5, 4, 4.5, 16)
    rows = [["workers", "Zipf exponent", "hottest user", *(f"{n:g} per worker" for n in each)]]
    for cells in scale.fleets[:: max(1, len(scale.fleets) // 2)]:
        workers = cells * scale.cell_workers
        for exponent in (0.0, 0.5, 0.7):
            ratios = [
                imbalance(
                    partition_shares(round(n * workers), _USERS, exponent, seed=1),
                    owners(round(n * workers), workers, scale.cell_workers),
                    workers,
                )
                for n in each
            ]
            hottest = float(user_shares(_USERS, exponent)[0])
            rows.append([f"{workers:,}", f"{exponent:g}", f"{hottest:.2g}", *(f"{ratio:.2f}" for ratio in ratios)])
    return rows


def threads(costs: Costs, scale: Scale) -> Table:
    """The limit of concurrent calls of a server, before and after one of the servers is lost."""
    rows = [["threads per core", "before: rejected calls", "p99", "scored in time", "one server lost: rejected calls"]]
    rows[0] += ["p99", "scored in time"]
    for per_core in (0.5, 1, 2, 4, 16):
        base = replace(setup_of(costs, scale, LOAD), threads=max(1, round(per_core * _SERVER_CORES)))
        row = [f"{per_core:g}"]
        for faults in ((), (Fault(0.2, "kill_server"),)):
            found = simulate(base, costs, faults)
            seen = found.between(_SKIP_S, scale.seconds)
            row += [_share(found.rejected, found.calls + found.rejected), _ms(seen.p99_ms), _percent(seen.ok_share)]
        rows.append(row)
    return rows


def events(costs: Costs, scale: Scale) -> Table:
    """What one event costs: requests that are not scored in time, and slower answers."""
    at, seconds = scale.fault_seconds / 4, scale.fault_seconds
    base = replace(setup_of(costs, scale, LOAD), seconds=seconds)
    cases: Mapping[str, tuple[Setup, Sequence[Fault]]] = {
        "none": (base, [Fault(seconds, "start_server")]),
        f"one of {base.cell_servers} model servers is killed": (base, [Fault(at, "kill_server")]),
        f"one of {base.cell_workers} workers is killed, with a standby": (base, [Fault(at, "kill_worker")]),
        "the same without a standby": (replace(base, standby=False), [Fault(at, "kill_worker")]),
        "a new model version: loaded, warmed, 5 s ramp": (base, [Fault(at, "switch")]),
        "a new program: all workers replaced, one after the other": (base, [Fault(at, "upgrade")]),
    }
    rows = [["event", "not scored in time", "as seconds of all traffic", "p99 before", "p99 after"]]
    for name, (setup, faults) in cases.items():
        found = simulate(setup, costs, faults)
        missed = int((~found.ok & (found.sent >= at)).sum())
        before, after = found.between(_SKIP_S, at), found.between(at, seconds)
        rows.append([name, f"{missed:,}", f"{missed / setup.rate:.2g}", _ms(before.p99_ms), _ms(after.p99_ms)])
    return rows


def zone(costs: Costs, scale: Scale) -> Table:
    """Three zones, one cell in each, of which one is lost, by the load before."""
    rows = [["load before", "load after", "scored in time, before", "10 s until the takeover", "after it", "p99 after"]]
    for load in (0.4, 0.5, 0.6, 0.8)[: len(scale.loads)]:
        small = replace(scale, cell_workers=min(4, scale.cell_workers))
        lost_at, taken_at = 1.0, 11.0
        # The backlog of the lost zone is answered, as expired, in the second after the takeover.
        setup = replace(setup_of(costs, small, load, cells=3), seconds=15.0 if scale.seconds > 1 else 12.5)
        found = simulate(setup, costs, [Fault(lost_at, "lose_cell")])
        before, outage = found.between(_SKIP_S, lost_at), found.between(lost_at, taken_at)
        after = found.between(taken_at + 1, setup.seconds)
        rows.append(
            [
                f"{load:.0%}",
                f"{1.5 * load:.0%}",
                *(_percent(window.ok_share) for window in (before, outage, after)),
                _ms(after.p99_ms),
            ]
        )
    return rows


def cost(costs: Costs, scale: Scale) -> Table:
    """What rates from 1,000 requests/s to a million take."""
    found = simulate(setup_of(costs, scale, LOAD), costs)
    batch = len(found.sent) / found.calls
    header = ["requests/s", "worker cores", "model server cores", "broker cores", "partitions", "topics, GB/s"]
    rows = [[*header, "model calls, GB/s", "memory, GB", "dollars per hour", "dollars per million"]]
    for rate in (1_000, 10_000, 100_000, 1_000_000):
        size = size_of(costs, rate, load=LOAD, batch=batch, server_cores=_SERVER_CORES, candidates=costs.candidates)
        rows.append(
            [
                f"{rate:,}",
                *(f"{cores:,}" for cores in (size.worker_cores, size.server_cores, size.broker_cores)),
                f"{_PARTITIONS * size.worker_cores:,}",
                f"{size.topic_bytes / 1e9:,.2g}",
                f"{size.rpc_bytes / 1e9:,.2g}",
                f"{size.memory_gb:,.0f}",
                f"{size.dollars:,.2f}",
                f"{size.million:.3f}",
            ]
        )
    return rows


STUDIES: Mapping[str, Callable[[Costs, Scale], Table]] = {
    "loads": loads,
    "fleets": fleets,
    "skew": skew,
    "threads": threads,
    "events": events,
    "zone": zone,
    "cost": cost,
}
_COLUMNS = (
    "busy: workers",
    "model servers",
    "scoring p50",
    "scoring p99",
    "end to end p99",
    "scored in time",
    "rejected calls",
)


def _figures(found: Outcome, scale: Scale) -> list[str]:
    seen = found.between(min(_SKIP_S, scale.seconds / 2), scale.seconds)
    return [
        f"{found.worker_used.mean():.0%}",
        f"{found.server_used.mean():.0%}",
        _ms(seen.scoring_p50_ms),
        _ms(seen.scoring_p99_ms),
        _ms(seen.p99_ms),
        _percent(seen.ok_share),
        _share(found.rejected, found.calls + found.rejected),
    ]


def _ms(value: float) -> str:
    return "none" if value != value else f"{value:.1f} ms"  # noqa: PLR0124  NaN: no request was scored


def _percent(share: float) -> str:
    return f"{share:.2%}" if share < 1 else "100 %"


def _share(part: int, whole: int) -> str:
    return f"{part / whole:.2%}" if part else "0"
