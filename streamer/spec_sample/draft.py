"""Writes the draft of a feature spec, with a comment for each field. Pure."""

import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain, islice

import yaml

from streamer.errors import ConfigError
from streamer.spec_sample.choice import ENOUGH, Fields, LeftOut, choose
from streamer.spec_sample.form import Document, RequestForm, form_of
from streamer.spec_sample.names import new_name
from streamer.spec_sample.observations import MAX_DISTINCT, Observations
from streamer.spec_sample.walk import walk

_FIRST = 100
# Of hundreds of candidates, so many of one request say as much.
_ROWS = 20
# One less than in a spec: there is room for the ad's id.
_MAX_FEATURES, _MAX_COLUMNS = 1023, 4095
_MAX_LEFT_OUT = 100
_USER = re.compile(r"(?:user|device|visitor|profile|customer|viewer|person)(?:[._\[]|$)|(?:gender|age|geo)$")
_EXAMPLES, _EXAMPLE_CHARS = 3, 24
_AD: Fields = {"kind": "categorical", "buckets": 16384, "wide": True, "deep": True}


@dataclass(slots=True)
class Sample:
    """The values of a sample by path: of its requests, and of their candidates."""

    form: RequestForm
    requests: int = 0
    candidates: int = 0
    request: dict[str, Observations] = field(default_factory=dict)
    candidate: dict[str, Observations] = field(default_factory=dict)

    def add(self, document: Document, where: str) -> None:
        """Counts the values of a request; `where` is its file and line.

        Raises:
            ConfigError: its candidates are wrong.
        """
        form = self.form
        own = frozenset(filter(None, (form.request_id, form.deadline_ms, form.candidates)))
        if isinstance(document.get("model"), str):
            own |= {"model"}
        self.requests += 1
        for found in walk(document, own, "imp" if form.is_openrtb else None):
            self.request.setdefault(found.path, Observations()).add(found)
        rows = form.rows(document, where)
        for row in rows[:: max(1, len(rows) // _ROWS)]:
            self.candidates += 1
            for found in walk(row):
                self.candidate.setdefault(found.path, Observations()).add(found)


def read_sample(documents: Iterable[tuple[str, Document]], source: str) -> Sample:
    """Counts the values of requests, each with its file and line.

    Raises:
        ConfigError: a line is no request, or there is none; names file, line and field.
    """
    parsed = iter(documents)
    first = list(islice(parsed, _FIRST))
    if not first:
        raise ConfigError(f"{source}: has no requests: expected one JSON object a line")
    where, document = first[0]
    if {"request", "candidates", "clicked"} <= document.keys():
        raise ConfigError(f"{where}: clicked: this is a click log; expected requests as bidders send them")
    sample = Sample(form_of([document for _, document in first]))
    for where, document in chain(first, parsed):
        sample.add(document, where)
    return sample


def draft(sample: Sample, name: str, source: str) -> str:
    """The text of a spec file that loads as it is, YAML, with a feature of the candidates."""
    names: set[str] = set()
    features: list[str] = []
    left_out: list[str] = []
    columns = 0
    for side, path, seen, total in _fields(sample):
        chosen = _chosen(side, path, seen, total, sample)
        shown = path.replace("[*]", "[0]") if seen.longest == 1 else path
        width = 0 if isinstance(chosen, LeftOut) else _width(chosen)
        if len(features) == 2 * _MAX_FEATURES or columns + width > _MAX_COLUMNS:
            chosen = LeftOut("a spec has no room for it")
        if isinstance(chosen, LeftOut):
            left_out.append(f"  # {side} {_text(shown)}: {chosen.reason}")
        elif chosen:
            columns += width
            features += [f"  # {_seen(seen, total, side, chosen)}", _line(names, shown, side, chosen)]
    if not any("side: candidate" in line for line in features):
        path = sample.form.ad_id or "ad_id"
        features += ["  # no other field tells one ad from another", _line(names, path, "candidate", _AD)]
    return "\n".join([*_head(sample, name, source), "features:", *features, *_rest(left_out), ""])


def _fields(sample: Sample) -> Iterator[tuple[str, str, Observations, int]]:
    """Side, path, values and number of objects of each field: user, context, candidate."""
    for side in ("user", "context"):
        for path, seen in sample.request.items():
            if (_USER.match(path) is not None) == (side == "user"):
                yield side, path, seen, sample.requests
    for path, seen in sample.candidate.items():
        yield "candidate", path, seen, sample.candidates


def _chosen(side: str, path: str, seen: Observations, total: int, sample: Sample) -> Fields | LeftOut:
    """The kind of a field; an empty one for an object without fields of its own."""
    of_side = sample.candidate if side == "candidate" else sample.request
    outer = [path[:i] for i in range(len(path)) if path[i] in ".["]
    if other := next((each for each in outer if each in of_side and of_side[each].records), None):
        return LeftOut(f"{other} is sometimes a value and sometimes an object")
    if outer and path[len(outer[0])] == "." and _has_lists(outer[0], of_side):
        return LeftOut(f"{outer[0]} is sometimes a list: a path to one of its keys needs an object in each request")
    if any(each.startswith((f"{path}.", f"{path}[")) for each in of_side):
        return LeftOut("it is sometimes an object") if seen.records else {}
    return choose(path, seen, total)


def _has_lists(key: str, of_side: Mapping[str, Observations]) -> bool:
    seen = of_side.get(key)
    return (seen is not None and seen.has_lists) or any(path.startswith(f"{key}[") for path in of_side)


def _width(chosen: Fields) -> int:
    most = chosen.get("max_values", 1)
    return (most if isinstance(most, int) else 1) + ("missing_indicator" in chosen)


def _head(sample: Sample, name: str, source: str) -> Iterator[str]:
    form = sample.form
    yield f"# Drafted from {sample.requests:,} requests of {_text(source)}. Check sides, kinds and numbers of buckets."
    yield "# docs/features.md explains them, and crosses, which a draft does not have."
    if sample.requests < ENOUGH:
        yield f"# So few requests say little: below {ENOUGH} nothing is called constant or an id."
    yield f"name: {_text(new_name(set(), name))}"
    yield "embedding_dim: 8"
    yield "prior: 0.01  # the score of a candidate that the model did not score: its usual click-through rate"
    if form.request_id is None:
        yield "# No request id was found: send it in the record's header `request_id`, or name its path in `request`."
    if form.candidates is None:
        yield "# The sample has no candidates: the bidder adds `candidates`, objects with `ad_id` and what the ad is."
    used = {"request_id": form.request_id, "deadline_ms": form.deadline_ms}
    used |= {"candidates": form.candidates, "ad_id": form.ad_id}
    shown = ", ".join(f"{own}: {_text(path)}" for own, path in used.items() if path is not None and path != own)
    if shown:
        yield f"request: {{{shown}}}"
    if form.deadline_ms == "tmax":
        yield "deadline_margin_ms: 50  # tmax includes the network and the bidder's own work"
    if any(path.startswith(("regs.", "device.lmt")) for path in sample.request):
        yield "# The requests say whether the user's data may be used: docs/privacy.md explains the section `consent`."


def _rest(left_out: Sequence[str]) -> list[str]:
    if not left_out:
        return []
    more = [f"  # and {len(left_out) - _MAX_LEFT_OUT:,} more"] if len(left_out) > _MAX_LEFT_OUT else []
    return [f"  # Left out, {len(left_out):,} fields:", *left_out[:_MAX_LEFT_OUT], *more]


def _line(names: set[str], path: str, side: str, chosen: Fields) -> str:
    values = {"name": new_name(names, re.sub(r"\[.\]", "", path)), "path": path, "side": side, **chosen}
    return f"  - {{{', '.join(f'{key}: {_value(value)}' for key, value in values.items())}}}"


def _value(value: object) -> str:
    return _text(value) if isinstance(value, str) else json.dumps(value)


def _text(value: str) -> str:
    """A text as YAML, on one line."""
    is_plain = re.fullmatch(r"[A-Za-z][A-Za-z0-9_.-]*", value) and yaml.safe_load(value) == value
    return value if is_plain else json.dumps(value)


def _seen(seen: Observations, total: int, side: str, chosen: Fields) -> str:
    """The comment by which a person judges the choice."""
    what = "candidates" if side == "candidate" else "requests"
    parts = [f"in {_percent(seen.records / total)} of the {what}"]
    if chosen["kind"] in ("numeric", "bucketised"):
        numbers = sorted(map(float, seen.counts))
        return f"{parts[0]}, {seen.distinct:,} distinct values: {numbers[0]:.6g} to {numbers[-1]:.6g}"
    more = f", about {seen.expected_distinct:,} expected" if seen.expected_distinct >= 1.2 * seen.distinct else ""
    limit = "more than " if seen.distinct == MAX_DISTINCT else ""
    parts.append(f"{limit}{seen.distinct:,} distinct value{'s' * (seen.distinct != 1)}{more}")
    if max(seen.lengths) > 1:
        parts.append(f"up to {max(seen.lengths)} in one of the {what}")
    if len(seen.types) > 1 and set(seen.types) != {"integer", "decimal"}:
        parts.append(" and ".join(sorted(f"{name}s" for name in seen.types)))
    examples = (
        f"{_example(text)} ({_percent(count / seen.items)})" for text, count in seen.counts.most_common(_EXAMPLES)
    )
    return f"{', '.join(parts)}: {', '.join(examples)}"


def _example(text: str) -> str:
    shown = text if len(text) <= _EXAMPLE_CHARS else f"{text[:_EXAMPLE_CHARS]}…"
    return json.dumps(shown, ensure_ascii=not shown.isprintable())


def _percent(share: float) -> str:
    return f"{share:.0%}" if share >= 0.01 else f"{share:.1%}"
