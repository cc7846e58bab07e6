"""The demo with ads by id: their topic, its changes, and scores computed again."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict

from rich.console import Console

from sandbox.broker.broker import Broker
from sandbox.demos.rescored import rescored
from sandbox.processes.progress import step
from sandbox.traffic.ad_history import AdHistory
from sandbox.traffic.ad_publisher import AdPublisher
from sandbox.traffic.recomputed import Recomputed, compared, question
from sandbox.traffic.report import TrafficReport
from sandbox.world.ad_changes import AdChanges
from sandbox.world.world import World
from streamer.settings.sections import PredictorSettings

ADS_TOPIC = "ads"
CHANGES_PER_S = 50.0
_PARTITIONS = 4
_RESCORED = 200


@contextmanager
def published_ads(console: Console, broker: Broker, world: World) -> Iterator[AdHistory]:
    """Creates the topic with the world's ads, which change until the end of the block.

    Raises:
        BrokerError, AdsError: the topic cannot be created, or a record cannot be stored.
    """
    broker.create_topic(ADS_TOPIC, _PARTITIONS, {"cleanup.policy": "compact"})
    history = AdHistory(ADS_TOPIC, _PARTITIONS)
    publisher = AdPublisher(broker.bootstrap_servers, ADS_TOPIC, AdChanges(world), rate=CHANGES_PER_S, history=history)
    with step(console, f"topic {ADS_TOPIC}: the ads of the world"):
        count = publisher.publish_catalogue()
    console.print(f"  {count:,} ads; {CHANGES_PER_S:.0f} of them change per second from now on")
    with publisher:
        yield history


def recomputed(
    console: Console, world: World, traffic: TrafficReport, history: AdHistory, server: PredictorSettings
) -> Recomputed:
    """Computes scores of some answers again, from the ads at the answer's position.

    Raises:
        DemoError: the model server does not answer.
    """
    samples = traffic.samples[:_RESCORED]
    with step(console, f"scores of {len(samples)} answers, computed again from the ads at the answer's position"):
        found = compared(world, samples, rescored(server, [question(world, s, history) for s in samples]), history)
    for line in found.examples:
        console.print(f"  {line}", style="red", markup=False)
    return found


def figures(history: AdHistory, before: Mapping[str, int], found: Recomputed) -> dict[str, object]:
    """The figures of the report; `before`: the history's `kinds` before the traffic."""
    changes = {kind: count - before[kind] for kind, count in history.kinds.items()}
    return {"changes": changes, "computed_again": asdict(found)}
