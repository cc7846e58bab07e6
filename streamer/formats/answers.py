"""Writes binary answers."""

from streamer.formats.ctr_pb2 import AdsPosition, Milliseconds, Model, Origin, Scores
from streamer.types import ScoreMessage


def encode_binary(message: ScoreMessage) -> bytes:
    """Encodes an answer as `ctr.v1.Scores`, with the fields of the JSON answer."""
    times, origin = message.times, message.origin
    scores = Scores(
        request_id=message.request_id,
        status=message.status,
        reason=message.reason,
        ms=Milliseconds(
            decode=round(times.decode, 3),
            encode=round(times.encode, 3),
            queue=round(times.queue, 3),
            predict=round(times.predict, 3),
            total=round(times.total, 3),
        ),
        batch_rows=message.batch_rows,
        origin=Origin(topic=origin.topic, partition=origin.partition, offset=origin.offset),
    )
    if message.model is not None:
        scores.model.CopyFrom(Model(name=message.model.name, version=message.model.version))
    if message.position is not None:
        scores.ads.CopyFrom(AdsPosition(topic=message.position.topic, positions=message.position.offsets))
    if message.ad_ids is not None and message.ctr is not None and message.sources is not None:
        scores.ad_id.extend(message.ad_ids)
        scores.ctr.extend(message.ctr.tolist())
        scores.source.extend(message.sources.tolist())
    return scores.SerializeToString()
