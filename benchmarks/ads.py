"""The topic of ads of the compared programs, and the settings of scorers that read it."""

import tempfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from confluent_kafka import Producer

from benchmarks.bench import UNHURRIED, Bench
from benchmarks.read_ads import PARTITIONS

MEMORY = "/dev/shm"  # noqa: S108  shared memory, as the default of `ads.directory`
_FLUSH_S = 300.0
_POLL_S = 0.1


def fill_topic(bench: Bench, topic: str, ads: Iterable[tuple[str | bytes, bytes | None]]) -> None:
    """Creates a compacted topic with these ads, JSON by id.

    Raises:
        TimeoutError: the broker does not store them all.
    """
    bench.broker.create_topic(topic, PARTITIONS, {"cleanup.policy": "compact"})
    producer = Producer({"bootstrap.servers": bench.bootstrap, "partitioner": "murmur2_random", "linger.ms": 20})
    for ad_id, value in ads:
        while True:
            try:
                producer.produce(topic, value, ad_id)
                break
            except BufferError:
                producer.poll(_POLL_S)
    if left := producer.flush(_FLUSH_S):
        raise TimeoutError(f"{topic}: {left} ads not stored in {_FLUSH_S:.0f} s")


@contextmanager
def by_id(topic: str) -> Iterator[Mapping[str, object]]:
    """Settings of scorers whose requests name ads by id; the tables are removed at the end."""
    with tempfile.TemporaryDirectory(prefix="ctr-bench-", dir=MEMORY) as directory:
        yield {**UNHURRIED, "ads.topic": topic, "ads.directory": str(Path(directory) / "tables")}
