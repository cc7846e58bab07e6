"""The ads that an explained request names, as their topic had them at a position."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import orjson

from streamer.ads import FoundAds, RowForm, TablePosition
from streamer.commands.ads_topic import ad_records, ads_topic
from streamer.commands.topic_ads import AdsAt
from streamer.errors import ConfigError, StreamerError
from streamer.settings import Settings
from streamer.types import ModelVersion

_SHOWN = 20


@dataclass(frozen=True, slots=True)
class At:
    """An answer to reproduce, or only its position.

    Attributes:
        offsets: the next offset of each partition of the topic of ads.
        ctr: of the candidates in the request's order.
    """

    offsets: tuple[int, ...]
    topic: str | None = None
    request_id: str | None = None
    version: ModelVersion | None = None
    ctr: Sequence[float] | None = None

    @staticmethod
    def parse(text: str) -> "At":
        """Offsets such as `12,40`, or a file with an answer in JSON.

        Raises:
            ConfigError: the text is neither; the file cannot be read, or its answer has no position.
        """
        if re.fullmatch(r"\d+(,\d+)*", text):
            return At(tuple(map(int, text.split(","))))
        try:
            answer = orjson.loads(Path(text).read_bytes())
            ads = answer["ads"]
            model = answer.get("model")
            version = None if model is None else ModelVersion(str(model["name"]), int(model["version"]))
            offsets = tuple(map(int, ads["positions"]))
            ctr = None if answer.get("ctr") is None else list(map(float, answer["ctr"]))
            return At(offsets, str(ads["topic"]), str(answer["request_id"]), version, ctr)
        except OSError as error:
            raise ConfigError(f"--at {text}: expected offsets such as 12,40, or a file: {error.strerror}") from error
        except (ValueError, TypeError, LookupError, AttributeError) as error:
            raise ConfigError(f"--at {text}: expected an answer in JSON with the field ads") from error


class TopicAds:
    """An AdTable of some ads.

    `documents`: their features; None for an ad that the topic does not have.
    """

    def __init__(
        self, form: RowForm, documents: Mapping[str, Mapping[str, Any] | None], position: TablePosition
    ) -> None:
        self.documents, self.position = documents, position
        self._form = form

    def lookup(self, ad_ids: Sequence[str]) -> FoundAds:
        """The rows of these ads."""
        found = [self.documents[ad_id] for ad_id in ad_ids]
        known = np.array([document is not None for document in found], dtype=np.bool_)
        return FoundAds(self._form.encode([document or {} for document in found]), known, self.position)


async def read_ads(settings: Settings, form: RowForm, ad_ids: Sequence[str], at: At | None) -> TopicAds:
    """The ads at a position, or at the end of the topic.

    Raises:
        StreamerError: the features of an ad at the position are not known; one line for each ad.
        ConfigError: the position is not one of this topic.
    """
    from streamer.kafka.topics import ends_of  # noqa: PLC0415

    topic = ads_topic(settings)
    if at is not None and at.topic not in {None, topic}:
        raise ConfigError(f"--at: the answer's ads come from topic {at.topic!r}, ads.topic is {topic!r}")
    ends = await ends_of(settings, topic)
    if at is not None and (len(at.offsets) > len(ends) or any(map(int.__gt__, at.offsets, ends))):
        shown = ",".join(map(str, at.offsets)), ",".join(map(str, ends))
        raise ConfigError(f"--at: topic {topic!r} ends at {shown[1]}, before {shown[0]}: it was created again")
    ads = AdsAt(ad_ids, form.document, None if at is None else at.offsets)
    async for record in ad_records(settings):
        ads.add(record)
    states = {ad_id: ads.state(ad_id) for ad_id in ad_ids}
    lost = [f"ad {ad_id!r}: {state.why_unknown}" for ad_id, state in states.items() if state.why_unknown is not None]
    if lost:
        more = [f"{len(lost) - _SHOWN} more ads"] if len(lost) > _SHOWN else []
        first = "the score cannot be reproduced: the features of these ads at the position are not known"
        raise StreamerError("\n".join([first, *lost[:_SHOWN], *more]))
    offsets = tuple(ends) if at is None else at.offsets
    return TopicAds(form, {ad_id: state.document for ad_id, state in states.items()}, TablePosition(topic, offsets))
