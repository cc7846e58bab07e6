"""Slots of sites and apps, and the contexts of requests: slot, time and place."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import orjson

from sandbox.world.population import (
    CATEGORIES,
    COUNTRIES,
    F64,
    FORMATS,
    LANGUAGES,
    POSITIONS,
    SIZES,
    Ints,
    Users,
    pick,
    zipf,
)

PAGE_CATEGORIES = 24
SLOTS_OF_SITE = 3
_DAY_MS, _HOUR_MS = 86_400_000, 3_600_000
_EPOCH_WEEKDAY = 3  # 1970-01-01 was a Thursday
_WEATHER = tuple(w.encode() for w in ("clear", "clouds", "rain", "snow", "fog", "storm", "wind", "haze"))
_HOURLY = 1.0 + 0.7 * np.sin((np.arange(24) - 9.0) * np.pi / 12.0)
_REQUEST_PART = (
    b'{%b,"page":"p%d-%d","referrer":"ref-%d","floor":%.2f,"hour":%d,"weekday":%d,"ip_prefix":"10.%d.%d",'
    b'"timezone":"tz-%d","weather":"%b","session_depth":%d}'
)


@dataclass(frozen=True, slots=True)
class Slots:
    """n slots, `SLOTS_OF_SITE` on each site or app; codes index the constants of `population`.

    Attributes:
        fragments: the constant part of the contexts' JSON, without braces.
        weights: float64 [n], share of requests.
        viewability: float64 [n], in [0, 1].
    """

    fragments: tuple[bytes, ...]
    weights: F64
    site: Ints
    page_category: Ints
    slot_format: Ints
    position: Ints
    size: Ints
    viewability: F64


@dataclass(frozen=True, slots=True)
class Contexts:
    """The contexts of m requests.

    Attributes:
        slot, hour, weekday: [m]; hour and weekday (Monday is 0) are the user's local ones.
        json: m `context` objects.
    """

    slot: Ints
    hour: Ints
    weekday: Ints
    json: Sequence[bytes]

    def one(self, row: int) -> "Contexts":
        """The context of one request."""
        at = slice(row, row + 1)
        return Contexts(self.slot[at], self.hour[at], self.weekday[at], (self.json[row],))


def draw_slots(rng: np.random.Generator, sites: int) -> Slots:
    """Slots of `sites` sites (60 %) and apps.

    Format, position and size belong to the slot; the other values belong to its site.
    """
    n = sites * SLOTS_OF_SITE
    site = np.repeat(np.arange(sites), SLOTS_OF_SITE)
    page_category = rng.integers(0, PAGE_CATEGORIES, sites)[site]
    slot_format = pick(rng, np.array([0.5, 0.2, 0.25, 0.05]), n)
    position, size = pick(rng, zipf(len(POSITIONS), 0.3), n), pick(rng, zipf(len(SIZES), 0.7), n)
    viewability = np.round(rng.beta(4.0, 3.0, n), 2)
    depth = rng.integers(1, 9, n)
    is_app, exchange = rng.random(sites) < 0.4, rng.integers(0, 8, sites)
    publisher, language = pick(rng, zipf(max(sites // 4, 1), 0.5), sites), pick(rng, zipf(len(LANGUAGES), 1.0), sites)
    fragments = []
    for i, at in enumerate(site.tolist()):
        topic = int(page_category[i])
        context: dict[str, Any] = {
            "exchange": f"exchange-{exchange[at]}",
            "publisher": f"publisher-{publisher[at]}",
            "app" if is_app[at] else "site": f"app-{at}" if is_app[at] else f"site{at}.example",
            "page_category": CATEGORIES[topic] if topic < len(CATEGORIES) else f"topic-{topic}",
            "page_keywords": [f"kw-{topic}-{(at * 7 + k * 11) % 30}" for k in range(1 + at % 4)],
            "content_language": LANGUAGES[language[at]],
            "slot": {
                "id": f"slot-{i}",
                "size": SIZES[size[i]],
                "format": FORMATS[slot_format[i]],
                "position": POSITIONS[position[i]],
                "depth": int(depth[i]),
                "viewability": float(viewability[i]),
            },
        }
        fragments.append(orjson.dumps(context)[1:-1])
    weights = np.repeat(zipf(sites, 0.9), SLOTS_OF_SITE) * rng.dirichlet([2.0] * SLOTS_OF_SITE, sites).ravel()
    return Slots(tuple(fragments), weights, site, page_category, slot_format, position, size, viewability)


def draw_times(rng: np.random.Generator, n: int, start_ms: int, days: int) -> npt.NDArray[np.int64]:
    """n times in milliseconds since the epoch, ascending, more by day than by night; int64 [n]."""
    hours = pick(rng, _HOURLY / _HOURLY.sum(), n)
    times = start_ms + rng.integers(0, days, n) * _DAY_MS + hours * _HOUR_MS + rng.integers(0, _HOUR_MS, n)
    return np.sort(times)


def draw_contexts(
    rng: np.random.Generator, slots: Slots, users: Users, requesters: Ints, times_ms: npt.NDArray[np.int64]
) -> Contexts:
    """The contexts of m requests of the users `requesters` [m] at `times_ms`, int64 [m]."""
    m = len(requesters)
    slot = pick(rng, slots.weights, m)
    timezone = users.country[requesters] * 24 // COUNTRIES
    local_hours = times_ms // _HOUR_MS + timezone
    hour, weekday = local_hours % 24, (local_hours // 24 + _EPOCH_WEEKDAY) % 7
    columns = (
        slots.site[slot],
        pick(rng, zipf(20, 1.0), m),
        pick(rng, zipf(300, 1.0), m),
        np.exp(0.9 * rng.standard_normal(m) - 0.7),
        hour,
        weekday,
        users.city[requesters] % 256,
        rng.integers(0, 24, m),
        timezone,
    )
    sky, depth = pick(rng, zipf(len(_WEATHER), 0.7), m).tolist(), rng.geometric(0.3, m).tolist()
    rows = zip(slot.tolist(), *(column.tolist() for column in columns), sky, depth, strict=True)
    json = [
        _REQUEST_PART % (slots.fragments[at], s, p, ref, floor, h, w, ip, block, tz, _WEATHER[sky_], depth_)
        for at, s, p, ref, floor, h, w, ip, block, tz, sky_, depth_ in rows
    ]
    return Contexts(slot, hour.astype(np.intp), weekday.astype(np.intp), json)
