"""What `streamer explain` shows of one request: as values, for a table and for JSON."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from math import isfinite
from typing import Literal

import orjson

from streamer.features import Cross, Layout
from streamer.features.hashing import canonical, to_float
from streamer.features.kinds import Bucketised, MultiValued, Numeric
from streamer.features.raw_kinds import RawFeature, Text
from streamer.features.spec import AnyFeature, Group
from streamer.features.transforms import Read, feature_column_getter, feature_getter
from streamer.types import F32, F64, I32, BidRequest, EncodedRequest, ModelVersion, Origin

State = Literal["given", "table", "missing", "denied", "cross"]


@dataclass(frozen=True, slots=True)
class FeatureLine:
    """One feature of the request, or of its first candidate.

    Attributes:
        value: as in the request, or as in the ad's topic; None also if the feature has no value of its own (a cross).
        state: `table`: the value is that of the ad's topic; `denied` if the user's consent is.
        rows: of the fused table; None for other features.
        number: as the model gets it; None for other features.
        items: texts or ids as the model gets them; none if it gets them in an Example; None for other features.
        is_exact: a foreign model gets the request's own number.
    """

    name: str
    group: Group
    value: object
    state: State
    rows: tuple[int, ...] | None = None
    number: float | None = None
    items: tuple[str | int, ...] | None = None
    is_exact: bool = False


@dataclass(frozen=True, slots=True)
class Explanation:
    """One request, encoded and, with a model, scored.

    Attributes:
        version: None without a model; then `ctr` is None, too.
        available: the AVAILABLE versions of the model, sorted.
        ctr: of all candidates; NaN: the model has returned no valid score.
        origin: of a record of a topic.
        times: milliseconds by stage.
        calls: to the model server, if no other request shares them.
        answered: the scores of the answer to compare with, of all candidates.
    """

    request_id: str
    layout: Layout
    encoded: EncodedRequest
    features: list[FeatureLine]
    out_of_range: Mapping[str, int]
    budget_ms: float
    calls: int
    times: Mapping[str, float]
    version: ModelVersion | None = None
    available: tuple[int, ...] = ()
    ctr: list[float] | None = None
    origin: Origin | None = None
    answered: Sequence[float] | None = None

    def as_json(self, shown: int) -> str:
        """One object, with the first `shown` candidates; a field without a value is null."""
        encoded, spec, version, origin = self.encoded, self.layout.spec, self.version, self.origin
        document = {
            "outcome": "encoded" if version is None else "scored",
            "request_id": self.request_id,
            "reason": None,
            "record": _place(origin),
            "spec": {"name": spec.name, "hash": spec.hash},
            "model": None if version is None else {"name": version.name, "version": version.version},
            "available_versions": list(self.available),
            "budget_ms": self.budget_ms,
            "consent_denied": encoded.consent_denied,
            "features": [
                {
                    "name": line.name,
                    "side": line.group,
                    "value": line.value,
                    "state": line.state,
                    "rows": line.rows,
                    "number": line.number,
                    "items": line.items,
                }
                for line in self.features
            ],
            "out_of_range": dict(self.out_of_range),
            "candidate_count": encoded.size,
            "candidates": [
                {
                    "ad_id": encoded.ad_ids[i],
                    "cache_key": self.cache_key(i),
                    "ctr": self.ctr[i] if self.ctr is not None and isfinite(self.ctr[i]) else None,
                    **({} if self.answered is None else {"answered_ctr": self.answered[i]}),
                }
                for i in range(min(shown, encoded.size))
            ],
            "ads": self._ads(),
            "calls": self.calls,
            "ms": {stage: self.times.get(stage) for stage in ("decode", "encode", "predict")},
        }
        return json.dumps(document, allow_nan=False)

    def _ads(self) -> dict[str, object] | None:
        position, unknown = self.encoded.position, self.encoded.unknown
        if position is None:
            return None
        missing = [] if unknown is None else [self.encoded.ad_ids[i] for i in unknown.nonzero()[0].tolist()]
        return {"topic": position.topic, "positions": list(position.offsets), "unknown": missing}

    def cache_key(self, candidate: int) -> str:
        """The key of a candidate's score, without the version."""
        return "".join(f"{half:016x}" for half in self.encoded.keys[candidate].tolist())


def rejected_json(request_id: str | None, reason: str, origin: Origin | None) -> str:
    """The object of a request that cannot be scored, with the outcome of its record."""
    outcome = "dead_letter" if request_id is None else "invalid"
    return json.dumps({"outcome": outcome, "request_id": request_id, "reason": reason, "record": _place(origin)})


def _place(origin: Origin | None) -> dict[str, object] | None:
    if origin is None:
        return None
    return {"topic": origin.topic, "partition": origin.partition, "offset": origin.offset}


def feature_lines(
    layout: Layout, request: BidRequest, encoded: EncodedRequest, ad: Mapping[str, object] | None = None
) -> list[FeatureLine]:
    """The request's features, then the first candidate's, then their crosses, then raw features.

    `ad`: the first candidate's ad in its topic, whose values replace those that the request does not have.
    """

    def given(feature: AnyFeature) -> tuple[object, State]:
        if isinstance(feature, Cross):
            return None, "cross"
        if encoded.consent_denied and feature.side == "user":
            return None, "denied"
        is_candidates = feature.side == "candidate"
        value = _of_first_candidate(request, feature) if is_candidates else feature_getter(feature)(request.fields)
        if is_candidates and ad is not None and not _is_given(value):
            value = feature_getter(feature)(ad)
            return value, "missing" if _is_missing(feature, value) else "table"
        return value, "missing" if _is_missing(feature, value) else "given"

    parts: tuple[tuple[Group, I32, F32 | None, F64 | None], ...] = (
        ("request", encoded.request_ids, encoded.request_floats, encoded.request_numbers),
        ("candidate", encoded.candidate_ids, encoded.candidate_floats, encoded.candidate_numbers),
        ("pair", encoded.pair_ids, None, None),
    )
    lines: list[FeatureLine] = []
    for group, ids, floats, numbers in parts:
        for columns in layout.ids[group]:
            rows = tuple(ids[0, columns.start : columns.start + columns.width].tolist())
            lines.append(FeatureLine(columns.feature.name, group, *given(columns.feature), rows=rows))
        named = [(column.feature.name, column) for column in layout.floats[group]]
        named += [(f"{column.feature.name}:missing", column) for column in layout.indicators[group]]
        for name, column in named:
            assert floats is not None, "crosses have no numbers"
            number = float((floats if numbers is None else numbers)[0, column.start])
            of_model = FeatureLine(name, group, *given(column.feature), number=number)
            lines.append(replace(of_model, is_exact=numbers is not None))
    for feature in layout.spec.features:
        if isinstance(feature, RawFeature):
            of_side: Group = "candidate" if feature.side == "candidate" else "request"
            items = _items(layout, encoded, feature, of_side)
            lines.append(FeatureLine(feature.name, of_side, *given(feature), items=items))
    return lines


def _items(layout: Layout, encoded: EncodedRequest, feature: RawFeature, group: Group) -> tuple[str | int, ...]:
    at = next((columns for columns in layout.raw[group] if columns.feature is feature), None)
    if at is None:
        return ()
    texts, numbers = (
        (encoded.candidate_texts, encoded.candidate_numbers)
        if group == "candidate"
        else (encoded.request_texts, encoded.request_numbers)
    )
    places = range(at.start, at.start + at.width)
    if isinstance(feature, Text):
        assert texts is not None, "a text has a column of texts"
        return tuple(texts[0, i].decode(errors="replace") for i in places)
    assert numbers is not None, "an id has two columns of numbers"
    rests = layout.number_width(group)
    return tuple(int(numbers[0, i]) + int(numbers[0, rests + i]) for i in places)


def _of_first_candidate(request: BidRequest, feature: Read) -> object:
    if request.rows is not None:
        first = bytes(request.rows[0])
        return feature_getter(feature)(orjson.loads(first) if request.read_row is None else request.read_row(first))
    column = feature_column_getter(feature)(request.columns)
    return column[0] if isinstance(column, list) else None


def _is_missing(feature: AnyFeature, value: object) -> bool:
    if isinstance(feature, Numeric | Bucketised):
        return not isfinite(to_float(value))
    has_list = isinstance(feature, MultiValued) or (isinstance(feature, RawFeature) and bool(feature.max_values))
    items = value if isinstance(value, list) and has_list else [value]
    return all(canonical(item) is None for item in items)


def _is_given(value: object) -> bool:
    """Whether a value of the request replaces that of the ad, as in `CandidatesById`."""
    return value == value and value not in (None, "", [])  # noqa: PLR0124  NaN
