"""A sample of a bidder whose JSON has other names: requests, one request, and a click log."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import orjson

from sandbox.world.bid_requests import RequestFactory
from sandbox.world.world import World

_LIMIT_MS = 500  # a first request of a new scorer takes longer than later ones


def write_sample(folder: Path, *, seed: int, requests: int, logged: int, candidates: int = 20) -> None:
    """Writes `requests.jsonl`, `request.json` and `clicks.jsonl` to a folder.

    Args:
        requests, logged: lines of the two files; a line of the log has 4 ads.
    """
    world = World(seed=seed, users=5_000, ads=1_000)
    folder.mkdir(parents=True, exist_ok=True)
    factory = RequestFactory(world, candidates=candidates, deadline_ms=_LIMIT_MS)
    (folder / "requests.jsonl").write_bytes(_lines(_request(factory) for _ in range(requests)))
    (folder / "request.json").write_bytes(_lines([_request(factory)]))
    log = folder / "clicks.jsonl"
    world.draw_log(log, logged)
    log.write_bytes(_lines(map(_logged, log.read_bytes().splitlines())))


def _lines(documents: Iterable[dict[str, Any]]) -> bytes:
    return b"".join(orjson.dumps(document, option=orjson.OPT_APPEND_NEWLINE) for document in documents)


def _request(factory: RequestFactory) -> dict[str, Any]:
    document = orjson.loads(factory.next().value)
    own = {"auction": document["request_id"], "timeout_ms": document["deadline_ms"]}
    return {**own, **_context(document), "ads": list(map(_ad, document["candidates"]))}


def _logged(line: bytes) -> dict[str, Any]:
    logged = orjson.loads(line)
    candidates = list(map(_ad, logged["candidates"]))
    return {**logged, "request": _context(logged["request"]), "candidates": candidates}


def _context(document: dict[str, Any]) -> dict[str, Any]:
    return {"visitor": document["user"], "page": document["context"]}


def _ad(ad: dict[str, Any]) -> dict[str, Any]:
    return {"creative_id": ad["ad_id"], **{name: value for name, value in ad.items() if name != "ad_id"}}
