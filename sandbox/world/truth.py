"""The true click probabilities of the world, known by construction."""

import numpy as np

from sandbox.world.contexts import PAGE_CATEGORIES, Contexts, Slots
from sandbox.world.population import (
    AGE_BOUNDARIES,
    CATEGORIES,
    CLICK_BOUNDARIES,
    CONNECTIONS,
    COUNTRIES,
    DEVICE_TYPES,
    F64,
    FORMATS,
    GENDERS,
    GOALS,
    INTERESTS,
    LANGUAGES,
    POSITIONS,
    SIZES,
    SYSTEMS,
    THEMES,
    Ads,
    Ints,
    Users,
)

_AGE_BANDS = len(AGE_BOUNDARIES) + 1
_NEWTON_STEPS = 30


def sigmoid(logits: F64) -> F64:
    """1 / (1 + e^-x)."""
    return np.asarray(1.0 / (1.0 + np.exp(-logits)))


def interaction(table: F64, sigma: float, *weights: F64) -> F64:
    """`table` without its lower-order effects, scaled to a standard deviation of `sigma`.

    The table has one axis for each of `weights`, the shares of that attribute's values. If the attributes are
    independent, the mean over any one axis is zero; then a model without crosses can learn nothing from the table.
    """
    for axis, shares in enumerate(weights):
        table = table - np.average(table, axis=axis, weights=shares, keepdims=True)
    square = table**2
    for shares in reversed(weights):
        square = np.average(square, axis=-1, weights=shares)
    deviation = float(np.sqrt(square))
    return table * (sigma / deviation) if deviation > 1e-9 else np.zeros_like(table)


def _shares(codes: Ints, weights: F64, size: int) -> F64:
    """The share of each of `size` codes: the sum of the weights of the items with that code."""
    return np.bincount(codes, weights, size).astype(np.float64)


class Truth:
    """P(click | user, context, ad) = sigmoid(bias + main effects + interactions).

    Every effect is a function of features of moderate cardinality, so a model can learn it from some 100,000
    impressions. The interactions are:

    - ad category with gender, age, interests, recent categories, hour and page category; and with gender and age
    - ad format with device, connection and slot format
    - goal with system and weekday; theme with slot position
    - equality of language, of size, and of advertiser and last advertiser
    """

    def __init__(self, rng: np.random.Generator, users: Users, slots: Slots, ads: Ads) -> None:
        self._users, self._ads = users, ads
        self._bias = 0.0
        by_user = {
            name: _shares(codes, users.weights, size)
            for name, codes, size in (
                ("gender", users.gender, len(GENDERS)),
                ("age", users.age_band, _AGE_BANDS),
                ("device", users.device_type, len(DEVICE_TYPES)),
                ("connection", users.connection, len(CONNECTIONS)),
                ("system", users.system, len(SYSTEMS)),
            )
        }
        category, formats, goals, themes, languages, sizes = (
            _shares(codes, ads.weights, size)
            for codes, size in (
                (ads.category, len(CATEGORIES)),
                (ads.creative_format, len(FORMATS)),
                (ads.goal, len(GOALS)),
                (ads.theme, len(THEMES)),
                (ads.language, len(LANGUAGES)),
                (ads.size, len(SIZES)),
            )
        )
        hours, days = np.full(24, 1 / 24), np.full(7, 1 / 7)
        pages = _shares(slots.page_category, slots.weights, PAGE_CATEGORIES)
        places = _shares(slots.position, slots.weights, len(POSITIONS))
        slot_weights, user_weights = slots.weights, users.weights
        n_categories = len(CATEGORIES)
        normal = rng.standard_normal

        self._user = (
            interaction(normal(len(GENDERS)), 0.12, by_user["gender"])[users.gender]
            + interaction(normal(_AGE_BANDS).cumsum(), 0.22, by_user["age"])[users.age_band]
            + interaction(normal(len(DEVICE_TYPES)), 0.2, by_user["device"])[users.device_type]
            + interaction(normal(COUNTRIES)[users.country], 0.2, user_weights)
            + interaction(np.arange(len(CLICK_BOUNDARIES) + 1.0)[users.click_band], 0.2, user_weights)
            + interaction(np.log(users.ctr + 0.01), 0.25, user_weights)
        )
        self._slot = (
            interaction(normal(PAGE_CATEGORIES), 0.2, pages)[slots.page_category]
            + interaction(normal(len(POSITIONS)), 0.22, places)[slots.position]
            + interaction(normal(len(FORMATS))[slots.slot_format], 0.12, slot_weights)
            + interaction(slots.viewability, 0.22, slot_weights)
        )
        self._hour = interaction(np.cos((np.arange(24) - 20.0) * np.pi / 12.0), 0.15, hours)
        self._ad = (
            interaction(normal(n_categories), 0.22, category)[ads.category]
            + interaction(normal(len(THEMES)), 0.15, themes)[ads.theme]
            + interaction(normal(len(FORMATS)), 0.15, formats)[ads.creative_format]
            + interaction(normal(len(GOALS)), 0.12, goals)[ads.goal]
            + interaction(normal(ads.advertiser.max() + 1)[ads.advertiser], 0.2, ads.weights)
            + interaction(np.log(ads.ctr), 0.25, ads.weights)
        )

        bands = np.arange(_AGE_BANDS)
        peak = rng.uniform(0.0, _AGE_BANDS, n_categories)
        by_age = np.exp(-(((bands[:, None] - peak) / 3.0) ** 2))
        turn, phase = rng.uniform(0.5, 1.5, n_categories), rng.uniform(0.0, 2 * np.pi, n_categories)
        third = normal((len(GENDERS), 1, n_categories)) * np.cos(np.pi * bands[:, None] / 12.0 * turn + phase)
        shares = by_user["gender"], by_user["age"], category
        self._user_category = (
            interaction(normal((len(GENDERS), n_categories)), 0.32, shares[0], category)[users.gender]
            + interaction(by_age, 0.36, shares[1], category)[users.age_band]
            + interaction(third, 0.3, *shares)[users.gender, users.age_band]
            + interaction(_interest_effect(rng, users), 0.3, users.weights, category)
            + interaction(_recently_seen(users), 0.24, users.weights, category)
        )
        self._hour_category = interaction(
            np.cos((np.arange(24)[:, None] - rng.uniform(0.0, 24.0, n_categories)) * np.pi / 12.0),
            0.28,
            hours,
            category,
        )
        self._slot_category = interaction(normal((PAGE_CATEGORIES, n_categories)), 0.32, pages, category)[
            slots.page_category
        ]
        self._user_format = (
            interaction(normal((len(DEVICE_TYPES), len(FORMATS))), 0.25, by_user["device"], formats)[users.device_type]
            + interaction(normal((len(CONNECTIONS), len(FORMATS))), 0.16, by_user["connection"], formats)[
                users.connection
            ]
        )
        self._slot_format = interaction(np.eye(len(FORMATS))[slots.slot_format], 0.2, slot_weights, formats)
        self._user_goal = interaction(normal((len(SYSTEMS), len(GOALS))), 0.2, by_user["system"], goals)[users.system]
        self._weekday_goal = interaction(normal((7, len(GOALS))), 0.12, days, goals)
        self._slot_theme = interaction(normal((len(POSITIONS), len(THEMES))), 0.27, places, themes)[slots.position]
        self._user_language = interaction(np.eye(len(LANGUAGES))[users.language], 0.26, user_weights, languages)
        self._slot_size = interaction(np.eye(len(SIZES))[slots.size], 0.15, slot_weights, sizes)
        self._same_advertiser = 0.8

    def calibrate(self, base_ctr: float, users: Ints, contexts: Contexts, ads: Ints) -> None:
        """Sets the bias by Newton's method: the mean probability of this sample is `base_ctr` then."""
        self._bias = 0.0
        effects = self.logits(users, contexts, ads)
        bias = float(np.log(base_ctr / (1.0 - base_ctr)))
        for _ in range(_NEWTON_STEPS):
            p = sigmoid(effects + bias)
            bias -= float((p.mean() - base_ctr) / (p * (1.0 - p)).mean())
        self._bias = bias

    def logits(self, users: Ints, contexts: Contexts, ads: Ints) -> F64:
        """Log-odds of a click for m requests (users [m]) of k ads each (ads [m, k]); float64 [m, k]."""
        a, user, slot, hour = self._ads, users[:, None], contexts.slot[:, None], contexts.hour[:, None]
        category, creative, goal = a.category[ads], a.creative_format[ads], a.goal[ads]
        request = self._bias + self._user[users] + self._slot[contexts.slot] + self._hour[contexts.hour]
        return np.asarray(
            request[:, None]
            + self._ad[ads]
            + self._user_category[user, category]
            + self._hour_category[hour, category]
            + self._slot_category[slot, category]
            + self._user_format[user, creative]
            + self._slot_format[slot, creative]
            + self._user_goal[user, goal]
            + self._weekday_goal[contexts.weekday[:, None], goal]
            + self._slot_theme[slot, a.theme[ads]]
            + self._user_language[user, a.language[ads]]
            + self._slot_size[slot, a.size[ads]]
            + self._same_advertiser * (self._users.last_advertiser[user] == a.advertiser[ads])
        )


def _interest_effect(rng: np.random.Generator, users: Users) -> F64:
    """The mean effect of a user's interests on each category; [n, categories]."""
    effect = 0.5 * rng.standard_normal((INTERESTS, len(CATEGORIES)))
    effect[np.arange(INTERESTS), np.arange(INTERESTS) % len(CATEGORIES)] += 2.0
    present = (users.interests >= 0)[:, :, None]
    total = (effect[users.interests] * present).sum(axis=1)
    return np.asarray(total / present.sum(axis=1))


def _recently_seen(users: Users) -> F64:
    """1 if the category is among the user's recent categories, else 0; [n, categories]."""
    seen = np.zeros((len(users.ids), len(CATEGORIES) + 1))
    seen[np.arange(len(seen))[:, None], users.recent] = 1.0  # the padding, -1, is the last column
    return seen[:, :-1]
