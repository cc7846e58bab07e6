"""The Avazu click log (Kaggle, 2014) as requests with one candidate each, the shown ad."""

import csv
import gzip
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import orjson

USER = ("device_id", "device_ip", "device_model", "device_type", "device_conn_type")
CONTEXT = (
    "C1",
    "banner_pos",
    "site_id",
    "site_domain",
    "site_category",
    "app_id",
    "app_domain",
    "app_category",
)
AD = ("C14", "C15", "C16", "C17", "C18", "C19", "C20", "C21")


@dataclass(frozen=True, slots=True)
class Impression:
    """One row of the log, in the form that `configs/features/avazu.yaml` reads."""

    row_id: str
    timestamp_ms: int
    request: dict[str, object]
    candidate: dict[str, object]
    clicked: int


def read_impressions(path: Path) -> Iterator[Impression]:
    """The rows of the file, which is ordered by time."""
    with gzip.open(path, "rt", newline="", encoding="utf-8") as lines:
        for row in csv.DictReader(lines):
            moment = datetime.strptime(row["hour"], "%y%m%d%H").replace(tzinfo=UTC)
            context = {name: row[name] for name in CONTEXT} | {"hour_of_day": moment.hour}
            yield Impression(
                row["id"],
                int(moment.timestamp()) * 1000,
                {"user": {name: row[name] for name in USER}, "context": context},
                # Avazu has no ad ids; C14 is the column most like the id of a creative.
                {"ad_id": row["C14"]} | {name: row[name] for name in AD},
                int(row["click"]),
            )


def write_click_log(impressions: list[Impression], path: Path) -> None:
    """Writes the click log that `model-training train` reads."""
    with path.open("wb") as file:
        for shown in impressions:
            line = {
                "timestamp_ms": shown.timestamp_ms,
                "request": shown.request,
                "candidates": [shown.candidate],
                "clicked": [shown.clicked],
            }
            file.write(orjson.dumps(line, option=orjson.OPT_APPEND_NEWLINE))


def bid_request(shown: Impression) -> bytes:
    """The request of one impression, as a bidder sends it."""
    return orjson.dumps({"request_id": shown.row_id, **shown.request, "candidates": [shown.candidate]})
