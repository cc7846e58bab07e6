"""Records that are no requests, and traffic for a long time."""

import time

from confluent_kafka import Producer

from benchmarks.chaos.scene import SAMPLES, Chaos, delivered
from benchmarks.report import Figure

POISON: tuple[bytes | None, ...] = (
    b"{nonsense",
    b"[1,2]",
    b'"hello"',
    b"null",
    b"",
    None,
    b'{"request_id":17,"candidates":[{"ad_id":"a"}]}',
    b'{"request_id":"\xff","candidates":[]}',
    b"[" * 100_000,
)
"""Records without a request id for an answer."""
_POISON_SHARE = 0.05
_WARM_UP = 0.2


def poison(chaos: Chaos) -> list[Figure]:
    """Records that are no requests among requests: only they are dead-lettered."""
    sent = 0
    with chaos.scene("poison") as scene:
        producer = Producer({"bootstrap.servers": chaos.bench.bootstrap})

        def pour() -> None:
            nonlocal sent
            for _ in range(chaos.settings.times * len(POISON)):
                producer.produce(scene.topics.requests, value=POISON[sent % len(POISON)], key=str(sent).encode())
                producer.poll(0)
                sent += 1
                time.sleep(1 / (_POISON_SHARE * chaos.settings.rate))
            if producer.flush(60):
                raise TimeoutError("the broker does not accept the poison records")

        report = scene.traffic(pour)
    dead = float("nan") if report.dead_letters is None else report.dead_letters
    return [
        *delivered(report, duplicates=False),
        Figure("poison", sent, "records"),
        Figure("poison_without_a_dead_letter", sent - dead, "records", "<=", 0),
        Figure("dead_letters_of_others", dead - sent, "records", "<=", 0),
    ]


def soak(chaos: Chaos) -> list[Figure]:
    """No fault for a long time: memory, threads and descriptors stay constant."""
    with chaos.scene("soak") as scene:
        report, resident, handles = scene.watch(chaos.settings.seconds)
    first = round(_WARM_UP * SAMPLES)
    growth = max(resident[first:]) / resident[first] - 1
    return [
        *delivered(report, duplicates=False),
        Figure("resident_after_warm_up", resident[first] / 2**20, "MiB"),
        Figure("resident_growth", growth, "ratio", "<=", 0.05),
        Figure("descriptors_and_threads_growth", handles[-1] - handles[first], "", "<=", 2),
    ]
