"""Draws millions of encoded rows of the sandbox's world, with true click probabilities.

The encoder of the scorer encodes each user, slot, time and ad once; the rows are combinations of these parts.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import orjson

from model_training.data.examples import Examples
from sandbox.world.clicks import draw_clicks
from sandbox.world.population import F64, Ints
from sandbox.world.world import World
from streamer.features import Cross, Encoder, FeatureSpec
from streamer.features.layout import IdColumns
from streamer.types import I32

_MOMENTS = ("context.hour", "context.weekday")
_HOURS, _DAYS = 24, 7
_BLOCK = 65_536


@dataclass(frozen=True, slots=True)
class WorldRows:
    """n impressions; those of one request are adjacent.

    Attributes:
        examples: the encoded rows.
        users: [n], the user of each impression.
        ctr: float64 [n], true click probabilities.
    """

    examples: Examples
    users: Ints
    ctr: F64


class WorldEncoder:
    """Encodes impressions of `world` by a spec of ids without crosses; times are hour, weekday.

    Raises:
        ValueError: the spec has crosses or numeric features.
    """

    def __init__(self, world: World, spec: FeatureSpec) -> None:
        encoder = Encoder(spec)
        layout = encoder.layout
        if layout.row_floats or any(layout.crosses(group) for group in layout.ids):
            raise ValueError(f"spec {spec.name!r}: rows of a world need a spec of ids without crosses")
        self._row_ids = layout.row_ids
        documents: dict[str, Sequence[dict[str, object]]] = {
            "user": _documents("user", world.users.json),
            "slot": _documents("context", [b"{%b}" % fragment for fragment in world.slots.fragments]),
            "moment": [{"context": {"hour": hour, "weekday": day}} for day in range(_DAYS) for hour in range(_HOURS)],
            "ad": [orjson.loads(ad) for ad in world.ads.json],
        }
        columns: dict[str, list[int]] = {part: [] for part in documents}
        for c in (*layout.ids["request"], *layout.ids["candidate"]):
            start = c.start + (layout.id_width("request") if c.group == "candidate" else 0)
            columns[_part(c)] += range(start, start + c.width)
        self._parts = []
        for part, given in documents.items():
            nothing: Sequence[dict[str, object]] = [{}] * len(given)
            request, candidate = (nothing, given) if part == "ad" else (given, nothing)
            ids, _ = encoder.encode_log(request, candidate, [1] * len(given))
            self._parts.append((columns[part], ids[:, columns[part]]))

    def rows(self, users: Ints, slots: Ints, hours: Ints, weekdays: Ints, ads: Ints) -> I32:
        """Ids of m requests, `ads` [m, k], the others [m]; int32 [m · k, layout.row_ids]."""
        m, k = ads.shape
        ids = np.empty((m, k, self._row_ids), np.int32)
        for which, (columns, rows) in zip((users, slots, weekdays * _HOURS + hours, ads), self._parts, strict=True):
            ids[:, :, columns] = rows[which] if which.ndim == 2 else rows[which][:, None]
        return ids.reshape(m * k, -1)


def draw_rows(world: World, spec: FeatureSpec, requests: int, *, shown: int = 4, seed: int) -> WorldRows:
    """Impressions of `requests` requests with `shown` ads each; seeds give independent samples."""
    encoder = WorldEncoder(world, spec)
    rng = np.random.default_rng([world.seed, 2, seed])
    ids, row_users, truth, clicks = [], [], [], []
    for start in range(0, requests, _BLOCK):
        users, contexts = world.draw_requests(rng, min(_BLOCK, requests - start))
        ads = world.draw_shown(rng, len(users), shown)
        ctr = world.true_ctrs(users, contexts, ads)
        ids.append(encoder.rows(users, contexts.slot, contexts.hour, contexts.weekday, ads))
        row_users.append(users.repeat(shown))
        truth.append(ctr.ravel())
        clicks.append(draw_clicks(rng, ctr).ravel())
    labels: npt.NDArray[np.int8] = np.concatenate(clicks)
    examples = Examples(np.concatenate(ids), np.empty((len(labels), 0), np.float32), labels)
    return WorldRows(examples, np.concatenate(row_users), np.concatenate(truth))


def _part(columns: IdColumns) -> str:
    feature = columns.feature
    assert not isinstance(feature, Cross)
    if feature.side != "context":
        return "user" if feature.side == "user" else "ad"
    return "moment" if feature.path in _MOMENTS else "slot"


def _documents(key: str, parts: Sequence[bytes]) -> list[dict[str, object]]:
    return [{key: orjson.loads(part)} for part in parts]
