"""Writes a drawn click log as three topics: bid requests, impressions, clicks."""

from pathlib import Path
from typing import NamedTuple

import orjson

_CLICK_AFTER_MS = 5_000


class TopicFiles(NamedTuple):
    """Files of JSON lines, one for each topic."""

    bid_requests: Path
    impressions: Path
    clicks: Path


def write_topic_files(log: Path, folder: Path) -> TopicFiles:
    """Writes the topics of a log of `World.draw_log`; request ids have the line numbers.

    A click is 5 s later than its impression. The requests do not have the labels of the log.
    """
    folder.mkdir(parents=True, exist_ok=True)
    files = TopicFiles(*(folder / f"{name}.jsonl" for name in ("bid-requests", "impressions", "clicks")))
    with (
        log.open("rb") as lines,
        files.bid_requests.open("wb") as bid_requests,
        files.impressions.open("wb") as impressions,
        files.clicks.open("wb") as clicks,
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
    return files


def _line(document: object) -> bytes:
    return orjson.dumps(document, option=orjson.OPT_APPEND_NEWLINE)
