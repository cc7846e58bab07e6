"""The report of the demo: figures, a summary and a picture."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from sandbox.traffic.quality import ScoreFunction, quality
from sandbox.traffic.report import TrafficReport, per_second
from sandbox.world.world import World

_PERCENTILES = {"p50": 50.0, "p99": 99.0, "p999": 99.9}
_BROKERS = {"kafka": "Apache Kafka", "embedded": "librdkafka's embedded cluster, whose times are not Kafka's"}
_PROTOCOLS = {"grpc": "gRPC", "rest": "REST"}
_SAMPLES = 400
_STAGES = ("decode", "encode", "queue", "predict")


@dataclass(frozen=True, slots=True)
class DemoReport:
    """The figures of a run, with the names of `build/demo/report.json`.

    Times are in milliseconds. `ads`: changes of the topic of ads during the traffic, and scores that were computed
    again; empty unless requests name ads by id. `wrong` includes answers whose scores differ.
    """

    broker: str
    model_server: str
    protocol: str
    requests_sent: int
    answered: int
    lost: int
    duplicates: int
    wrong: int
    dead_lettered: int
    candidates_per_second: float
    scoring_ms: Mapping[str, float]
    end_to_end_ms: Mapping[str, float]
    batch_rows: Mapping[str, float]
    cache_hit_ratio: float
    model: Mapping[str, object]
    auc: Mapping[str, float]
    status: Mapping[str, int]
    ads: Mapping[str, Any]
    settings: Mapping[str, object]

    @property
    def healthy(self) -> bool:
        """Whether each request has exactly one answer, and each answer is correct."""
        return not (self.lost or self.duplicates or self.wrong)

    def as_json(self) -> dict[str, object]:
        """The figures as JSON values."""
        return asdict(self)

    def summary(self) -> list[tuple[str, str]]:
        """Names and values for the table on the screen."""
        times = {
            name: "   ".join(f"{p} {ms[p]:.1f} ms" for p in _PERCENTILES)
            for name, ms in (("scoring", self.scoring_ms), ("end to end", self.end_to_end_ms))
        }
        total = max(1, self.answered)
        return [
            ("broker", _BROKERS[self.broker]),
            ("model server", f"{self.model_server}, called over {_PROTOCOLS[self.protocol]}"),
            ("model", f"{self.model['name']}, version {self.model['version']}"),
            ("requests", f"{self.requests_sent} sent, {self.answered} answered"),
            (
                "",
                f"{self.lost} lost, {self.duplicates} duplicate, {self.wrong} wrong, {self.dead_lettered} dead letters",
            ),
            ("answers", ", ".join(f"{name} {n} ({n / total:.1%})" for name, n in self.status.items())),
            ("budget", f"{self.settings['budget_ms']:.0f} ms per request"),
            ("candidates scored", f"{self.candidates_per_second:,.0f} per second"),
            ("scoring (received to answered)", times["scoring"]),
            ("end to end (sent to ranker)", times["end to end"]),
            ("rows per batch", f"p50 {self.batch_rows['p50']:.0f}   p99 {self.batch_rows['p99']:.0f}"),
            ("score cache hits", f"{self.cache_hit_ratio:.1%} of candidates"),
            *self._ads(),
            (
                "AUC",
                f"served {self.auc['served']:.4f}, true probabilities {self.auc['bayes']:.4f}, "
                f"logistic regression {self.auc['logistic_regression']:.4f}",
            ),
        ]

    def _ads(self) -> list[tuple[str, str]]:
        if not self.ads:
            return []
        changes, again = self.ads["changes"], self.ads["computed_again"]
        return [
            ("ads", ", ".join(f"{count:,} {kind}" for kind, count in changes.items()) + " during the traffic"),
            (
                "scores computed again",
                f"{again['answers']} answers, {again['wrong']} wrong, difference at most {again['max_difference']:.1e}",
            ),
            (
                "",
                f"{again['candidates']:,} candidates, {again['changed']:,} of them changed before, "
                f"{again['unknown']:,} unknown; at most {again['behind']} records behind",
            ),
        ]


def make_report(
    traffic: TrafficReport,
    *,
    world: World,
    baseline: ScoreFunction,
    broker: str,
    model_server: str,
    protocol: str,
    seconds: float,
    cache_hit_ratio: float,
    ads: Mapping[str, Any],
    settings: Mapping[str, object],
) -> DemoReport:
    """Computes the figures; draws clicks for a sample of answers to measure their quality."""
    times = traffic.times
    found = quality(world, traffic.samples[:_SAMPLES], baseline=baseline)
    name, _, version = max(traffic.models, key=lambda m: traffic.models[m], default="none/0").rpartition("/")
    rows = times.batch_rows[times.batch_rows > 0]
    candidates = sum(traffic.sources.values())
    return DemoReport(
        broker=broker,
        model_server=model_server,
        protocol=protocol,
        requests_sent=traffic.requests_sent,
        answered=traffic.answered,
        lost=traffic.lost,
        duplicates=traffic.duplicates,
        wrong=traffic.unknown + sum(traffic.wrong.values()) + (ads["computed_again"]["wrong"] if ads else 0),
        dead_lettered=traffic.dead_letters or 0,
        candidates_per_second=round(candidates / seconds, 1),
        scoring_ms=percentiles(times.stage_ms["total"]),
        end_to_end_ms=percentiles(times.latency_ms),
        batch_rows={name: ms for name, ms in percentiles(rows).items() if name != "p999"},
        cache_hit_ratio=round(cache_hit_ratio, 4),
        model={"name": name, "version": int(version)},
        auc={
            "served": round(found.served, 4),
            "bayes": round(found.bayes, 4),
            "logistic_regression": round(found.baseline, 4),
        },
        status=traffic.statuses,
        ads=ads,
        settings=settings,
    )


def percentiles(values: npt.NDArray[np.float64]) -> dict[str, float]:
    """p50, p99 and p99.9 of the values that are not NaN; 0 without such values."""
    known = values[~np.isnan(values)]
    if not len(known):
        return dict.fromkeys(_PERCENTILES, 0.0)
    return {name: round(float(np.percentile(known, q)), 3) for name, q in _PERCENTILES.items()}


def plot(traffic: TrafficReport, path: Path) -> None:
    """Draws latency by stage, and throughput and batch size over time, as a PNG."""
    # Imported here: matplotlib takes seconds to load, which would delay the first line of the demo.
    import matplotlib as mpl  # noqa: PLC0415

    mpl.use("Agg")
    from matplotlib import pyplot as plt  # noqa: PLC0415

    times, series = traffic.times, per_second(traffic.times)
    figure, (top, middle, bottom) = plt.subplots(3, 1, figsize=(9, 9), constrained_layout=True)
    for stage in (*_STAGES, "total"):
        values = times.stage_ms[stage]
        values = np.sort(values[~np.isnan(values)])
        if len(values):
            share = np.arange(1, len(values) + 1) / len(values)
            top.plot(
                values,
                share,
                label="all of scoring" if stage == "total" else stage,
                lw=2.2 if stage == "total" else 1.2,
            )
    end_to_end = np.sort(times.latency_ms)
    top.plot(end_to_end, np.arange(1, len(end_to_end) + 1) / max(1, len(end_to_end)), "k--", lw=1.2, label="end to end")
    top.set(xscale="log", xlabel="milliseconds", ylabel="share of answers", title="Latency by stage", ylim=(0, 1.01))
    top.xaxis.set_major_formatter("{x:g}")
    top.axvline(10, color="tab:red", lw=1, ls=":")
    top.text(10.3, 0.04, "10 ms", color="tab:red")
    top.grid(alpha=0.3)
    top.legend(fontsize=8, loc="upper left")
    # The last second is incomplete.
    whole = slice(0, max(1, len(series.second) - 1))
    (answers,) = middle.plot(series.second[whole], series.answers[whole], color="tab:blue", label="answers per second")
    middle.set(xlabel="seconds", ylabel="answers per second", title="Throughput and end-to-end latency over time")
    middle.set_ylim(bottom=0)
    middle.grid(alpha=0.3)
    latency = middle.twinx()
    (p50,) = latency.plot(series.second[whole], series.p50_ms[whole], color="tab:orange", lw=1, label="p50, ms")
    (p99,) = latency.plot(series.second[whole], series.p99_ms[whole], color="tab:red", lw=1, label="p99, ms")
    latency.set_ylabel("end to end, ms")
    latency.set_ylim(bottom=0)
    latency.legend(handles=[answers, p50, p99], fontsize=8, loc="upper right")
    bottom.plot(series.second[whole], series.batch_rows[whole], color="tab:green")
    bottom.set(xlabel="seconds", ylabel="rows", title="Rows per batch (mean of each second)")
    bottom.set_ylim(bottom=0)
    bottom.grid(alpha=0.3)
    figure.savefig(path, dpi=110)
    plt.close(figure)
