"""Reads answers, JSON or binary, for commands and programs that show them."""

from collections.abc import Sequence

import numpy as np
import orjson
from google.protobuf.message import DecodeError

from streamer.formats.content_type import form_of
from streamer.formats.ctr_pb2 import Scores
from streamer.formats.frames import is_framed, message_in
from streamer.types import SOURCES, Header

Answer = dict[str, object]
"""The fields of the JSON answer."""


def read_answer(value: bytes | None, headers: Sequence[Header]) -> Answer:
    """The fields of an answer, by the names of the JSON answer; a binary one has the same.

    Raises:
        ValueError: it is no answer.
    """
    if is_framed(value) or form_of(headers) == "binary":
        value = message_in(value) if is_framed(value) else value
        try:
            return _fields(Scores.FromString(value or b""))
        except DecodeError:
            raise ValueError("not valid Protobuf: expected ctr.v1.Scores") from None
    try:
        answer = orjson.loads(value or b"")
    except orjson.JSONDecodeError as error:
        raise ValueError(f"not valid JSON: {error}") from None
    if isinstance(answer, dict) and isinstance(answer.get("status"), str):
        return answer
    raise ValueError("expected an object with `status`")


def _fields(scores: Scores) -> Answer:
    """As `codec.encode_scores` writes them."""
    if not scores.status:
        raise ValueError("expected ctr.v1.Scores with `status`")
    answer: Answer = {"request_id": scores.request_id, "status": scores.status}
    if scores.HasField("model"):
        answer["model"] = {"name": scores.model.name, "version": scores.model.version}
    if scores.HasField("ads"):
        answer["ads"] = {"topic": scores.ads.topic, "positions": list(scores.ads.positions)}
    if scores.reason:
        answer["reason"] = scores.reason
    if scores.ad_id:
        answer["ad_id"] = list(scores.ad_id)
        # By the shortest text of a float32, as in JSON.
        answer["ctr"] = [float(str(ctr)) for ctr in np.array(scores.ctr, dtype=np.float32)]
        answer["source"] = [SOURCES[source] if 0 <= source < len(SOURCES) else str(source) for source in scores.source]
    ms = scores.ms
    answer["ms"] = {
        "decode": ms.decode,
        "encode": ms.encode,
        "queue": ms.queue,
        "predict": ms.predict,
        "total": ms.total,
    }
    if scores.batch_rows:
        answer["batch_rows"] = scores.batch_rows
    origin = scores.origin
    answer["origin"] = {"topic": origin.topic, "partition": origin.partition, "offset": origin.offset}
    return answer
