"""A ranker: reads the answers, and chooses the ad with the highest click probability.

python clients/python/ranker.py [IDLE_S]

It ends when no answer came for IDLE_S seconds; without it, at SIGTERM. KAFKA_BROKERS, ANSWER_TOPIC, GROUP and START_AT
(latest or earliest) replace the defaults. Needs confluent-kafka.
"""

import json
import os
import signal
import sys
import time
from collections import Counter, OrderedDict
from typing import Any

from confluent_kafka import Consumer, Message

KEPT_ORIGINS = 100_000  # more than a crash of the scorer can repeat


class Origins:
    """The origins of the latest answers: an answer with a known one is a duplicate."""

    def __init__(self) -> None:
        self._known: OrderedDict[tuple[str, int, int], None] = OrderedDict()

    def is_new(self, answer: dict[str, Any]) -> bool:
        origin = answer["origin"]
        place = (origin["topic"], origin["partition"], origin["offset"])
        if place in self._known:
            return False
        self._known[place] = None
        if len(self._known) > KEPT_ORIGINS:
            self._known.popitem(last=False)
        return True


def late_ms(message: Message) -> int:
    """Milliseconds after the deadline, below 0 in time; by synchronous clocks."""
    headers = dict(message.headers() or [])
    sent_at, deadline = headers.get("sent_at_ms"), headers.get("deadline_ms")
    if sent_at is None or deadline is None:
        return 0
    try:
        return round(time.time() * 1000 - float(sent_at) - float(deadline))
    except ValueError:  # a bidder can send any text
        return 0


def best(answer: dict[str, Any]) -> str | None:
    """The ad with the highest score; None without scores."""
    match answer["status"]:
        case "ok" | "partial" | "fallback":
            # `source` says which scores are priors: all of a fallback's, some of a partial answer's.
            ad, _ = max(zip(answer["ad_id"], answer["ctr"], strict=True), key=lambda each: each[1])
            return str(ad)
        case "expired":
            return None  # too late to score
        case "invalid":
            print(f"{answer['request_id']}: {answer['reason']}", file=sys.stderr)  # a fault of the bidder
            return None
        case other:
            print(f"{answer['request_id']}: unknown status {other}", file=sys.stderr)  # a newer scorer
            return None


def main() -> None:
    idle_s = float(sys.argv[1]) if len(sys.argv) > 1 else float("inf")
    consumer = Consumer(
        {
            "bootstrap.servers": os.environ.get("KAFKA_BROKERS", "localhost:9092"),
            "group.id": os.environ.get("GROUP", "rankers"),
            "isolation.level": "read_committed",
            "auto.offset.reset": os.environ.get("START_AT", "latest"),  # of a new group
        }
    )
    consumer.subscribe([os.environ.get("ANSWER_TOPIC", "ctr-scores")])
    origins, statuses, duplicates, late = Origins(), Counter[str](), 0, 0
    stopping = False

    def stop(*_: object) -> None:
        nonlocal stopping
        stopping = True

    signal.signal(signal.SIGTERM, stop)
    last = float("inf")
    while not stopping and time.monotonic() - last < idle_s:
        message = consumer.poll(0.1)
        if message is None:
            continue
        if (error := message.error()) is not None:
            print(error.str(), file=sys.stderr)
            if error.fatal():
                sys.exit(1)
            continue  # librdkafka retries by itself
        last = time.monotonic()
        try:
            answer = json.loads(message.value() or b"")
            is_new = origins.is_new(answer)
        except (ValueError, TypeError, KeyError) as error:
            # A binary answer, or another program's record.
            print(f"{message.partition()}/{message.offset()}: no answer in JSON: {error!r}", file=sys.stderr)
            continue
        if not is_new:
            duplicates += 1
            continue
        after = late_ms(message)
        late += after > 0
        statuses[answer["status"]] += 1
        print(json.dumps({"request_id": answer["request_id"], "late_ms": after, "best": best(answer)}))
    consumer.close()
    print(json.dumps({"answers": statuses, "duplicates": duplicates, "late": late}))


if __name__ == "__main__":
    main()
