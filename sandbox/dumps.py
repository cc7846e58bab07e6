"""A drawn log as a company's topics would hold it: what was asked, what was shown, what was clicked."""

from pathlib import Path
from typing import NamedTuple

import orjson

_CLICK_AFTER_MS = 5_000


class Dumps(NamedTuple):
    """Files of JSON lines, one for each topic."""

    bid_requests: Path
    impressions: Path
    clicks: Path


def write_dumps(log: Path, folder: Path) -> Dumps:
    """Writes the topics of a log of `World.draw_log`; each request has its line's number as id.

    A click comes five seconds after its impression. The log's own labels are not in the request.
    """
    folder.mkdir(parents=True, exist_ok=True)
    dumps = Dumps(*(folder / f"{name}.jsonl" for name in ("bid-requests", "impressions", "clicks")))
    with (
        log.open("rb") as lines,
        dumps.bid_requests.open("wb") as bid_requests,
        dumps.impressions.open("wb") as impressions,
        dumps.clicks.open("wb") as clicks,
    ):
        for number, text in enumerate(lines):
            line = orjson.loads(text)
            request_id, time_ms, candidates = f"log-{number}", line["timestamp_ms"], line["candidates"]
            identity = {"request_id": request_id, "timestamp_ms": time_ms}
            bid_requests.write(_line({**identity, **line["request"], "candidates": candidates}))
            for candidate, clicked in zip(candidates, line["clicked"], strict=True):
                event = {**identity, "ad_id": candidate["ad_id"]}
                impressions.write(_line(event))
                if clicked:
                    clicks.write(_line({**event, "timestamp_ms": time_ms + _CLICK_AFTER_MS}))
    return dumps


def _line(document: object) -> bytes:
    return orjson.dumps(document, option=orjson.OPT_APPEND_NEWLINE)
