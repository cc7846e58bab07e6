"""A worker between source and sink, on the virtual clock, whose versions change."""

import asyncio
from collections import Counter
from collections.abc import Coroutine, Sequence
from typing import Any

import orjson
import structlog

from streamer.assembly import Assembly
from streamer.deadline import Deadline
from streamer.features import FeatureSpec
from streamer.in_flight import Schemas
from streamer.metrics import Metrics
from streamer.serving.warmup import OpensTables
from streamer.settings import Settings
from streamer.testing.model_servers import Loaded, VirtualServers, version_of
from streamer.types import DeadLetter, Header, Origin, Record
from tests.streamer.specs import SMALL, small_spec

_KEPT = {"user", "hour", "campaign", "bid", "campaign_user"}
ONE_SPEC = small_spec()
ANOTHER_SPEC = FeatureSpec.from_mapping(
    {**SMALL, "name": "narrow", "features": [f for f in SMALL["features"] if f["name"] in _KEPT]}  # type: ignore[attr-defined]
)
"""Reads fewer features of the same requests: its rows do not fit versions of the other spec."""
_SETTINGS: dict[str, dict[str, object]] = {
    "rollout": {"ramp_s": 0.2},
    "guard": {"max_drift": 1e9},
    "predictor": {"poll_interval_ms": 20, "warmup_requests": 2},
    "batching": {"max_batch_rows": 12},
    "source": {"max_budget_ms": 60_000},
}


class Worker:
    """A worker without source, sink and signals; only the model servers are fakes."""

    def __init__(
        self,
        servers: VirtualServers,
        *,
        ramp_s: float = 0.2,
        cache: bool = True,
        label: str | None = None,
        tables: OpensTables | None = None,
        schemas: Schemas | None = None,
    ) -> None:
        self.loop = asyncio.get_running_loop()
        self.servers = servers
        labels = {} if label is None else {"ctr": label}
        settings = Settings.model_validate(
            {
                **_SETTINGS,
                "cache": {"enabled": cache, "min_hit_ratio": 0.0},
                "rollout": {"ramp_s": ramp_s},
                "predictor": {**_SETTINGS["predictor"], "labels": labels},
            }
        )
        assembly = Assembly(settings, Metrics(), structlog.get_logger(), self.loop.time, self.spawn)
        kept = assembly.cache()
        self.models = assembly.models(servers, kept, tables)
        self.model = self.models.default
        scorer = assembly.scorer(
            self,
            servers,
            self,
            models=self.models,
            cache=kept,
            publish_shadow=_publish,
            publish_rows=_publish,
            schemas=schemas,
        )
        self.pipeline = scorer.pipeline
        self.metrics = assembly.metrics
        self.answers: dict[int, list[dict[str, Any]]] = {}
        self.finished: Counter[int] = Counter()
        self.answered_count = 0
        self.tasks: list[asyncio.Task[None]] = []

    async def start(self) -> None:
        """Serves the newest version, and starts the poll loop."""
        await self.models.refresh()
        self.spawn(self.models.poll(), "models")

    def spawn(self, work: Coroutine[Any, Any, None], name: str) -> asyncio.Task[None]:
        return self.loop.create_task(work, name=name)

    def send(self, user: int, ads: Sequence[int] = (1, 2, 3), *, budget_ms: float = 500.0) -> asyncio.Task[None]:
        """Sends a record."""
        offset = len(self.tasks)
        document = {
            "request_id": f"r{offset}",
            "user": {"id": f"u{user}", "sex": "f", "likes": ["x"], "age": 20 + user},
            "context": {"hour": 7, "pace": 0.5},
            "candidates": [{"ad_id": f"a{i}", "campaign": f"c{i}", "tags": ["t"], "bid": 1 + i} for i in ads],
        }
        now = self.loop.time()
        key, origin = f"u{user}".encode(), Origin("requests", 0, offset)
        record = Record(key, orjson.dumps(document), (), origin, 0, Deadline.after(now, budget_ms), now)
        task = self.spawn(self.pipeline.answer(record), "record")
        self.tasks.append(task)
        return task

    async def traffic(self, seconds: float, *, every_s: float = 0.002, users: int = 40) -> None:
        """Records of these users in rotation; each user repeats some ads and has new ones."""
        until = self.loop.time() + seconds
        while self.loop.time() < until:
            number = len(self.tasks)
            self.send(number % users, (number % users, 50 + number // users % 7, 60 + number % 3))
            await asyncio.sleep(every_s)  # of the virtual clock

    async def settle(self) -> list[dict[str, Any]]:
        """The answers to all records so far, in their order, after checks that always hold.

        Each record has exactly one answer and is acknowledged once; an answer has scores of one version; no call had
        rows of another spec than its version's.
        """
        await asyncio.gather(*self.tasks)
        offsets = range(len(self.tasks))
        assert sorted(self.answers) == list(offsets)
        assert self.answered_count == len(self.tasks)
        assert self.finished == dict.fromkeys(offsets, 1)
        answers = []
        for offset in offsets:
            (answer,) = self.answers[offset]
            assert answer["request_id"] == f"r{offset}"
            version = answer["model"]["version"]
            scored = [ctr for ctr, source in zip(answer["ctr"], answer["source"], strict=True) if source != "prior"]
            assert {version_of(ctr) for ctr in scored} <= {version}
            answers.append(answer)
        assert self.servers.misfits == 0
        return answers

    # The pipeline's source and sink

    def answered(self) -> None:
        self.answered_count += 1

    def acknowledged(self, origin: Origin) -> None:
        self.finished[origin.offset] += 1

    async def publish(self, origin: Origin, key: bytes | None, value: bytes, headers: Sequence[Header]) -> None:
        self.answers.setdefault(origin.offset, []).append(orjson.loads(value))

    async def dead_letter(self, letter: DeadLetter) -> None:
        raise AssertionError(letter.reason)


async def _publish(key: bytes | None, *message: object) -> None:
    raise AssertionError(f"no version is in the shadow, and no rows are logged, but {key!r}: {message!r}")


def loaded(*versions: int, specs: dict[int, FeatureSpec] | None = None) -> dict[int, Loaded]:
    """A server with these versions, all of one spec except those in `specs`."""
    return {v: Loaded((specs or {}).get(v, ONE_SPEC)) for v in versions}
