"""The traffic of the demos: measures the capacity, chooses a budget, sends requests."""

from dataclasses import dataclass

from rich.console import Console

from sandbox.broker.broker import Broker
from sandbox.broker.topics import Topics
from sandbox.traffic.ad_history import AdHistory
from sandbox.traffic.checker import Checker
from sandbox.traffic.repeated_requests import Exchanges
from sandbox.traffic.report import TrafficReport
from sandbox.traffic.run import Progress, WorldRequests, run_traffic
from sandbox.traffic.sent_requests import SentRequests
from sandbox.world.bid_requests import CandidatesBy, RequestFactory
from sandbox.world.world import World

TOPICS = Topics("bid-requests", "ctr-scores", "dead-letters")
OFFERED_AGAIN, SAME_CANDIDATES = 0.3, 0.8
"""Share of requests that offer a slot of the last second again, and the share of candidates that stay the same."""
_PROBE_REQUESTS = 400
_PROBE_RATE = 2000.0
_BUDGETS_MS = (30.0, 100.0, 300.0, 1000.0, 3000.0)
_TRIAL_S = 3.0
_TRIAL_SHARE = 0.95


@dataclass(frozen=True, slots=True)
class Load:
    """The requests of a demo.

    Attributes:
        candidates: of each request; by: their form; history: that of the topic of ads if they are named by id.
    """

    world: World
    broker: Broker
    candidates: int
    by: CandidatesBy = "rows"
    history: AdHistory | None = None

    def factory(self, *, seed: int, deadline_ms: float, prefix: str) -> RequestFactory:
        """Requests with this budget."""
        return RequestFactory(
            self.world, candidates=self.candidates, seed=seed, layout=self.by, deadline_ms=deadline_ms, prefix=prefix
        )

    def checker(self) -> Checker:
        """A checker of their answers."""
        return Checker(SentRequests(), self.world.ads.ids, history=self.history)

    def run(
        self,
        source: WorldRequests,
        *,
        rate: float,
        seconds: float,
        progress: Progress | None = None,
        checker: Checker | None = None,
    ) -> TrafficReport:
        """Sends requests and receives their answers, as the broker allows; see `run_traffic`."""
        broker, most = self.broker, None
        if broker.unread_bytes is not None:
            size = len(self.factory(seed=0, deadline_ms=1.0, prefix="size").next().value)
            most = max(1, broker.unread_bytes // size)
        return run_traffic(
            broker.bootstrap_servers,
            TOPICS,
            source,
            rate=rate,
            seconds=seconds,
            progress=progress,
            checker=checker,
            max_unanswered=most,
            fetch_wait_ms=broker.fetch_wait_ms,
        )


def saturated_rate(load: Load) -> float:
    """Answered requests per second under overload, with budgets that no request misses."""
    rate = 1.0
    # Two rounds, and the second one counts: caches are cold in the first. The time is from the first send to the last
    # answer, so answers that arrive together do not raise the rate.
    for turn in range(2):
        factory = load.factory(seed=10 + turn, deadline_ms=60_000, prefix=f"probe{turn}")
        seconds = _PROBE_REQUESTS / _PROBE_RATE
        times = load.run(factory, rate=_PROBE_RATE, seconds=seconds).times
        if len(times.received_at):
            sent_at = times.received_at - times.latency_ms / 1e3
            rate = len(sent_at) / max(float(times.received_at.max() - sent_at.min()), 1e-3)
    return rate


def find_budget(load: Load, rate: float) -> tuple[float, float]:
    """The smallest tried budget, in ms, in which 95 % of requests are scored, and that share.

    The first budget is the scorer's default. A machine that needs a larger one runs other programs on the same cores.
    """
    budget_ms, share = _BUDGETS_MS[0], 0.0
    for budget_ms in _BUDGETS_MS:
        factory = load.factory(seed=3, deadline_ms=budget_ms, prefix=f"b{budget_ms:.0f}")
        report = load.run(factory, rate=rate, seconds=_TRIAL_S)
        share = report.statuses.get("ok", 0) / max(1, report.requests_sent)
        if share >= _TRIAL_SHARE:
            break
    return budget_ms, share


def send(console: Console, load: Load, *, rate: float, seconds: float, budget_ms: float) -> TrafficReport:
    """Sends the requests of a demo, prints progress every few seconds, and checks every answer."""
    console.print(f"traffic for {seconds:.0f} s ...", style="bold")
    console.print(
        f"  {OFFERED_AGAIN:.0%} of the requests offer a slot of the last second again, as several exchanges do: same"
        f" user and context, {SAME_CANDIDATES:.0%} of the candidates; the score cache has those scores"
    )

    def progress(elapsed: float, sent: int, answered: int) -> None:
        console.print(f"  {elapsed:3.0f} s: {sent} requests sent, {answered} answered")

    factory = load.factory(seed=2, deadline_ms=budget_ms, prefix="demo")
    offers = Exchanges(factory, again=OFFERED_AGAIN, kept=SAME_CANDIDATES, within=max(1, round(rate)))
    return load.run(offers, rate=rate, seconds=seconds, progress=progress, checker=load.checker())
