"""Users and ads: seeded, with Zipf distributions, in the JSON form of requests."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import orjson

F64 = npt.NDArray[np.float64]
Ints = npt.NDArray[np.intp]

CATEGORIES = (
    *("autos", "beauty", "books", "business", "education", "electronics", "fashion", "finance", "fitness", "food"),
    *("games", "garden", "health", "home", "kids", "music", "pets", "sports", "travel", "video"),
)
GENDERS = ("f", "m", "o")
AGE_BOUNDARIES = (18, 21, 25, 30, 35, 40, 45, 50, 55, 60, 65, 70)
CLICK_BOUNDARIES = (1, 2, 3, 5, 8, 13)
DEVICE_TYPES = ("phone", "tablet", "desktop", "tv", "watch")
SYSTEMS = ("android", "ios", "windows", "macos", "linux", "tvos", "wearos")
CONNECTIONS = ("wifi", "2g", "3g", "4g", "5g", "ethernet")
FORMATS = ("banner", "video", "native", "audio")
POSITIONS = ("above", "below", "sticky", "full", "feed")
GOALS = ("click", "install", "lead", "purchase", "view", "visit")
THEMES = ("bright", "dark", "photo", "text", "animated", "minimal")
SIZES = ("300x250", "728x90", "320x50", "160x600", "970x250", "300x600", "320x100", "640x480", "1x1", "468x60")
LANGUAGES = ("en", "es", "zh", "de", "fr", "pt", "ja", "ru", "it", "ko", "nl", "pl", "tr", "sv")
COUNTRIES = 40
INTERESTS = 40
_BROWSERS = ("chrome", "safari", "firefox", "edge", "samsung", "opera", "webview")
_BID_TYPES = ("cpc", "cpm", "cpa")
_SYSTEM_OF = np.array(  # rows: device types, columns: systems
    [
        [0.68, 0.32, 0, 0, 0, 0, 0],
        [0.45, 0.55, 0, 0, 0, 0, 0],
        [0, 0, 0.68, 0.24, 0.08, 0, 0],
        [0.6, 0, 0, 0, 0, 0.4, 0],
        [0, 0.5, 0, 0, 0, 0, 0.5],
    ]
)
_CONNECTION_OF = np.array(  # rows: device types, columns: connections
    [
        [0.5, 0.01, 0.06, 0.3, 0.13, 0],
        [0.85, 0, 0.02, 0.1, 0.03, 0],
        [0.55, 0, 0, 0.03, 0.02, 0.4],
        [0.7, 0, 0, 0, 0, 0.3],
        [0.6, 0, 0, 0.4, 0, 0],
    ]
)


def zipf(n: int, exponent: float) -> F64:
    """Shares of n items by rank, the k-th proportional to k ** -exponent; float64 [n], sum 1."""
    weights = np.arange(1, n + 1, dtype=np.float64) ** -exponent
    return np.asarray(weights / weights.sum())


def pick(rng: np.random.Generator, weights: F64, n: int) -> Ints:
    """n draws with replacement, by share; indices [n]."""
    return np.minimum(np.searchsorted(np.cumsum(weights), rng.random(n), side="right"), len(weights) - 1)


def _pick_rows(rng: np.random.Generator, weights: F64, rows: Ints) -> Ints:
    """One draw for each of `rows`, by the shares in that row of `weights`; [len(rows)]."""
    return np.asarray((np.cumsum(weights, axis=1)[rows] > rng.random(len(rows))[:, None]).argmax(axis=1))


def _some_of(rng: np.random.Generator, n: int, choices: int, least: int, most: int) -> Ints:
    """Between `least` and `most` distinct choices for each of n; [n, most], padded with -1."""
    picked = np.argpartition(-rng.random((n, choices)) * zipf(choices, 0.5), most, axis=1)[:, :most]
    return np.where(np.arange(most) < rng.integers(least, most + 1, n)[:, None], picked, -1)


def _names(words: tuple[str, ...], codes: Ints) -> list[str]:
    return [words[i] for i in codes.tolist()]


def _named(prefix: str, codes: Ints) -> list[str]:
    return [f"{prefix}{i}" for i in codes.tolist()]


def _lists(words: tuple[str, ...], codes: Ints) -> list[list[str]]:
    return [[words[i] for i in row if i >= 0] for row in codes.tolist()]


def _objects(columns: Mapping[str, list[object]]) -> list[dict[str, object]]:
    return [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]


@dataclass(frozen=True, slots=True)
class Ads:
    """The catalogue of n ads; codes index the constants above.

    The first ad is the most frequent.

    Attributes:
        ids: ad ids; json: each ad as a candidate of a request; columns: the n values of each key as JSON.
        weights: float64 [n], share of all candidates.
        ctr: float64 [n], the historical click rate in the ad's JSON.
    """

    ids: tuple[str, ...]
    json: tuple[bytes, ...]
    columns: Mapping[str, tuple[bytes, ...]]
    weights: F64
    category: Ints
    advertiser: Ints
    creative_format: Ints
    size: Ints
    goal: Ints
    theme: Ints
    language: Ints
    ctr: F64


def draw_ads(rng: np.random.Generator, n: int) -> Ads:
    """n ads.

    Each belongs to a campaign, each campaign to an advertiser with a brand and a category.
    """
    advertisers, campaigns = max(n // 20, 1), max(n // 4, 1)
    advertiser_of = pick(rng, zipf(advertisers, 0.6), campaigns)
    campaign = rng.integers(0, campaigns, n)
    advertiser = advertiser_of[campaign]
    category = pick(rng, zipf(len(CATEGORIES), 0.4), advertisers)[advertiser]
    language = pick(rng, zipf(len(LANGUAGES), 1.0), campaigns)[campaign]
    goal = pick(rng, zipf(len(GOALS), 0.5), campaigns)[campaign]
    creative_format, size = pick(rng, np.array([0.5, 0.22, 0.2, 0.08]), n), pick(rng, zipf(len(SIZES), 0.7), n)
    theme = pick(rng, zipf(len(THEMES), 0.3), n)
    ctr = np.clip(np.round(0.05 * np.exp(0.5 * rng.standard_normal(n)), 4), 0.001, 0.5)
    columns: dict[str, list[object]] = {
        "ad_id": [f"ad-{i:05d}" for i in range(n)],
        "campaign": [*_named("cmp-", campaign)],
        "advertiser": [*_named("adv-", advertiser)],
        "creative": [*_named("cr-", rng.integers(0, 2 * n, n))],
        "creative_size": [*_names(SIZES, size)],
        "creative_format": [*_names(FORMATS, creative_format)],
        "category": [*_names(CATEGORIES, category)],
        "subcategory": [
            f"{CATEGORIES[c]}-{s}" for c, s in zip(category.tolist(), (campaign % 8).tolist(), strict=True)
        ],
        "brand": [*_named("brand-", advertiser // 2)],
        "landing_domain": [f"shop{a}.example" for a in advertiser.tolist()],
        "product": [*_named("prd-", campaign * 2 + rng.integers(0, 2, n))],
        "goal": [*_names(GOALS, goal)],
        "language": [*_names(LANGUAGES, language)],
        "bid_type": [*_names(_BID_TYPES, pick(rng, np.array([0.6, 0.3, 0.1]), n))],
        "theme": [*_names(THEMES, theme)],
        "age_days": [*np.floor(rng.exponential(30.0, n)).astype(int).tolist()],
        "ctr": [*ctr.tolist()],
        "bid": [*np.round(np.exp(0.6 * rng.standard_normal(n)), 2).tolist()],
    }
    return Ads(
        ids=tuple(f"ad-{i:05d}" for i in range(n)),
        json=tuple(orjson.dumps(ad) for ad in _objects(columns)),
        columns={key: tuple(orjson.dumps(value) for value in values) for key, values in columns.items()},
        weights=zipf(n, 0.8),
        category=category,
        advertiser=advertiser,
        creative_format=creative_format,
        size=size,
        goal=goal,
        theme=theme,
        language=language,
        ctr=ctr,
    )


@dataclass(frozen=True, slots=True)
class Users:
    """n users; codes index the constants above. The first user is the most active.

    Attributes:
        ids: user ids, the keys of requests; json: the `user` object of a request.
        weights: float64 [n], share of requests.
        interests, recent: [n, 5] and [n, 3], distinct codes, padded with -1.
        ctr: float64 [n], the click rate in the user's JSON.
    """

    ids: tuple[str, ...]
    json: tuple[bytes, ...]
    weights: F64
    gender: Ints
    age_band: Ints
    country: Ints
    city: Ints
    language: Ints
    device_type: Ints
    system: Ints
    connection: Ints
    interests: Ints
    recent: Ints
    last_advertiser: Ints
    click_band: Ints
    ctr: F64


def draw_users(rng: np.random.Generator, n: int, ads: Ads) -> Users:
    """n users with places, devices, interests and a history with some of the ads."""
    gender = pick(rng, np.array([0.48, 0.47, 0.05]), n)
    age = np.clip(np.round(rng.gamma(6.0, 6.5, n)), 14, 85).astype(int)
    zip_code = pick(rng, zipf(2400, 0.6), n)
    city = zip_code % 600
    country = pick(rng, zipf(COUNTRIES, 0.9), 600)[city]
    native = np.arange(COUNTRIES) % len(LANGUAGES)
    language = np.where(rng.random(n) < 0.85, native[country], pick(rng, zipf(len(LANGUAGES), 1.0), n))
    device_type = pick(rng, np.array([0.62, 0.1, 0.22, 0.04, 0.02]), n)
    system, connection = _pick_rows(rng, _SYSTEM_OF, device_type), _pick_rows(rng, _CONNECTION_OF, device_type)
    model = pick(rng, zipf(200, 0.9), n)
    interests = _some_of(rng, n, INTERESTS, 1, 5)
    segments = _some_of(rng, n, 100, 1, 5)
    recent = _some_of(rng, n, len(CATEGORIES), 0, 3)
    last_ad = pick(rng, ads.weights, n)
    impressions = np.floor(rng.exponential(40.0, n)).astype(int)
    engagement = np.exp(0.6 * rng.standard_normal(n))
    clicks = rng.poisson(0.06 * engagement * impressions)
    ctr = np.clip(np.round(0.05 * engagement * np.exp(0.3 * rng.standard_normal(n)), 4), 0.0, 1.0)
    devices: dict[str, list[object]] = {
        "type": [*_names(DEVICE_TYPES, device_type)],
        "make": [*_named("make-", model % 20)],
        "model": [*_named("model-", model)],
        "os": [*_names(SYSTEMS, system)],
        "os_version": [f"{s}.{v}" for s, v in zip(system.tolist(), pick(rng, zipf(30, 1.0), n).tolist(), strict=True)],
        "browser": [*_names(_BROWSERS, pick(rng, zipf(len(_BROWSERS), 1.1), n))],
        "carrier": [*_named("carrier-", country * 3 + rng.integers(0, 3, n))],
        "connection": [*_names(CONNECTIONS, connection)],
    }
    ids = tuple(f"user-{i:06d}" for i in range(n))
    columns: dict[str, list[object]] = {
        "id": [*ids],
        "gender": [*_names(GENDERS, gender)],
        "age": [*age.tolist()],
        "country": [*_named("C", country)],
        "region": [*_named("region-", city % 200)],
        "city": [*_named("city-", city)],
        "zip": [f"{z:05d}" for z in zip_code.tolist()],
        "language": [*_names(LANGUAGES, language)],
        "device": [*_objects(devices)],
        "interests": [*_lists(tuple(f"interest-{i}" for i in range(INTERESTS)), interests)],
        "segments": [*_lists(tuple(f"segment-{i}" for i in range(100)), segments)],
        "recent_categories": [*_lists(CATEGORIES, recent)],
        "last_campaign": [orjson.loads(ads.columns["campaign"][i]) for i in last_ad.tolist()],
        "last_advertiser": [*_named("adv-", ads.advertiser[last_ad])],
        "clicks_7d": [*clicks.tolist()],
        "impressions_7d": [*impressions.tolist()],
        "ctr": [*ctr.tolist()],
    }
    return Users(
        ids=ids,
        json=tuple(orjson.dumps(user) for user in _objects(columns)),
        weights=zipf(n, 0.7),
        gender=gender,
        age_band=np.searchsorted(AGE_BOUNDARIES, age, side="right"),
        country=country,
        city=city,
        language=language,
        device_type=device_type,
        system=system,
        connection=connection,
        interests=interests,
        recent=recent,
        last_advertiser=ads.advertiser[last_ad],
        click_band=np.searchsorted(CLICK_BOUNDARIES, clicks, side="right"),
        ctr=ctr,
    )
