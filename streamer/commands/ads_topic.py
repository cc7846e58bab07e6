"""Reads the topic of ads for commands, and finds the spec by which its records are checked."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import TYPE_CHECKING

from streamer.ads import AdRecord
from streamer.errors import ConfigError
from streamer.features import Encoder, FeatureSpec
from streamer.settings import Settings

if TYPE_CHECKING:
    from streamer.features.stored_rows import StoredRows

_NO_SPEC = {
    "name": "none",
    "embedding_dim": 1,
    "features": [
        {"name": "ad", "path": "ad_id", "side": "candidate", "kind": "categorical", "buckets": 2, "wide": True}
    ],
}


def ads_topic(settings: Settings) -> str:
    """The topic of ads. Raises ConfigError if the settings name none."""
    if settings.ads.topic is None:
        raise ConfigError("ads.topic: expected the compacted topic of the ads, got null")
    return settings.ads.topic


async def ad_records(settings: Settings) -> AsyncIterator[AdRecord]:
    """All records that the topic holds now, in the order of each partition.

    Raises:
        UnreachableError: no broker answers.
        ConfigError: there is no such topic, or the brokers stop answering.
    """
    from streamer.kafka.record_batches import UnreadableRecord  # noqa: PLC0415
    from streamer.kafka.topics import records_of  # noqa: PLC0415

    async for record in records_of(settings, ads_topic(settings)):
        place = record.partition, record.offset, record.timestamp
        if isinstance(record, UnreadableRecord):
            yield AdRecord(*place, None, None, (), record.reason)
        else:
            yield AdRecord(*place, record.key, record.value)


async def encoder_at_hand(settings: Settings, spec: Path | None) -> Encoder | ConfigError:
    """The encoder of a spec file or of the serving model; the error if no model server has one.

    Raises:
        SpecError: the spec file is wrong.
    """
    if spec is not None:
        return Encoder(FeatureSpec.from_yaml(spec))
    # Imported here, so that --help does not wait for gRPC.
    from streamer.commands.live_model import connected, served  # noqa: PLC0415

    try:
        async with connected(settings) as predictor:
            serving, _ = await served(predictor.control, settings, settings.predictor.models[0])
            return serving.encoder
    except ConfigError as error:
        return error


def form_without_spec() -> "StoredRows":
    """A form that reads any record whose ad id is in `ad_id`."""
    return Encoder(FeatureSpec.from_mapping(_NO_SPEC)).row_form()
