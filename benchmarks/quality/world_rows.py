"""Rows drawn from the sandbox's world, with their true click probabilities: encoded by the million, without documents.

Users, slots, moments and ads are encoded once each, by the encoder that serves, and rows are put together from them.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import orjson

from model_training.click_log import Examples
from sandbox.population import F64, Ints
from sandbox.world import World, draw_clicks
from streamer.features import Encoder, FeatureSpec
from streamer.features.layout import IdColumns
from streamer.types import I32

_MOMENTS = ("context.hour", "context.weekday")
_HOURS, _DAYS = 24, 7
_BLOCK = 65_536


@dataclass(frozen=True, slots=True)
class WorldRows:
    """n impressions, those of one request side by side.

    Attributes:
        examples: as the encoder makes them.
        users: [n], whose impression each is.
        ctr: float64 [n], true click probabilities.
    """

    examples: Examples
    users: Ints
    ctr: F64


class WorldEncoder:
    """Encodes impressions of `world` by a spec of ids without crosses; of moments only hour and weekday are there.

    Raises:
        ValueError: the spec has crosses or numbers.
    """

    def __init__(self, world: World, spec: FeatureSpec) -> None:
        encoder = Encoder(spec)
        layout = encoder.layout
        if layout.row_floats or any(layout.crosses(group) for group in layout.ids):
            raise ValueError(f"spec {spec.name!r}: rows of a world are put together from ids without crosses")
        self._row_ids = layout.row_ids
        request, at = layout.ids["request"], layout.id_width("request")
        parts = (
            ([c for c in request if c.feature.side == "user"], _documents("user", world.users.json), 0),
            ([c for c in request if _of_slot(c)], _slots(world), 0),
            ([c for c in request if c.feature.path in _MOMENTS], _moments(), 0),
            (layout.ids["candidate"], [orjson.loads(ad) for ad in world.ads.json], at),
        )
        self._parts = []
        for columns, documents, start in parts:
            taken = [start + c.start + i for c in columns for i in range(c.width)]
            nothing: Sequence[dict[str, object]] = [{}] * len(documents)
            ends = (nothing, documents) if start else (documents, nothing)
            self._parts.append((taken, encoder.encode_log(*ends, [1] * len(documents))[0][:, taken]))

    def rows(self, users: Ints, slots: Ints, hours: Ints, weekdays: Ints, ads: Ints) -> I32:
        """Ids of m requests of k ads each, `ads` [m, k], the others [m]; int32 [m · k, layout.row_ids]."""
        m, k = ads.shape
        ids = np.empty((m, k, self._row_ids), np.int32)
        for which, (columns, rows) in zip((users, slots, weekdays * _HOURS + hours, ads), self._parts, strict=True):
            ids[:, :, columns] = rows[which] if which.ndim == 2 else rows[which][:, None]
        return ids.reshape(m * k, -1)


def draw_rows(world: World, spec: FeatureSpec, requests: int, *, shown: int = 4, seed: int) -> WorldRows:
    """Impressions of `requests` requests with `shown` ads each; different seeds are independent samples."""
    encoder = WorldEncoder(world, spec)
    rng = np.random.default_rng([world.seed, 2, seed])
    ids, who, truth, clicks = [], [], [], []
    for start in range(0, requests, _BLOCK):
        users, contexts = world.draw_requests(rng, min(_BLOCK, requests - start))
        ads = world.draw_shown(rng, len(users), shown)
        ctr = world.true_ctrs(users, contexts, ads)
        ids.append(encoder.rows(users, contexts.slot, contexts.hour, contexts.weekday, ads))
        who.append(users.repeat(shown))
        truth.append(ctr.ravel())
        clicks.append(draw_clicks(rng, ctr).ravel())
    labels: npt.NDArray[np.int8] = np.concatenate(clicks)
    examples = Examples(np.concatenate(ids), np.empty((len(labels), 0), np.float32), labels)
    return WorldRows(examples, np.concatenate(who), np.concatenate(truth))


def _of_slot(columns: IdColumns) -> bool:
    return columns.feature.side == "context" and columns.feature.path not in _MOMENTS


def _documents(key: str, parts: Sequence[bytes]) -> list[dict[str, object]]:
    return [{key: orjson.loads(part)} for part in parts]


def _slots(world: World) -> list[dict[str, object]]:
    return _documents("context", [b"{%b}" % fragment for fragment in world.slots.fragments])


def _moments() -> list[dict[str, object]]:
    return [{"context": {"hour": hour, "weekday": day}} for day in range(_DAYS) for hour in range(_HOURS)]
