"""An answer as text for people. Pure."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from streamer.formats.read_answers import Answer
from streamer.settings.names import printable
from streamer.types import Origin

_STYLES = {"ok": "green", "partial": "yellow", "fallback": "yellow", "expired": "red", "invalid": "red"}
_STAGES = ("decode", "encode", "queue", "predict")


class Timing(NamedTuple):
    """From the request's timestamp to the answer's, and the request's budget; milliseconds."""

    taken_ms: float
    budget_ms: float

    def __str__(self) -> str:
        late = self.taken_ms - self.budget_ms
        after = f"answered after {self.taken_ms:g} ms of {self.budget_ms:g}"
        return f"{after}, {late:g} ms late" if late > 0 else after


def style_of(answer: Answer) -> str:
    """The colour of an answer's status."""
    return _STYLES.get(str(answer["status"]), "")


def origin_of(answer: Answer) -> Origin | None:
    """The position of the request; None if the answer does not have it."""
    origin = answer.get("origin")
    if not isinstance(origin, dict):
        return None
    topic, partition, offset = origin.get("topic"), origin.get("partition"), origin.get("offset")
    if not isinstance(topic, str) or not isinstance(partition, int) or not isinstance(offset, int):
        return None
    return Origin(topic, partition, offset)


def described(answer: Answer, timing: Timing | None, top: int) -> list[str]:
    """The lines of an answer, with the `top` ads by rate; no text controls the terminal."""
    parts = [str(answer.get("request_id")), str(answer["status"])]
    model = answer.get("model")
    if isinstance(model, dict):
        parts.append(f"{model.get('name')}/{model.get('version')}")
    ads = _ads(answer)
    if ads:
        parts.append(f"{len(ads)} ad{'s' * (len(ads) > 1)}")
    parts += [_stages(answer.get("ms")), "" if timing is None else str(timing)]
    lines = [printable("  ".join(filter(None, parts)))]
    if (reason := answer.get("reason")) is not None:
        lines.append(printable(f"    reason: {reason}"))
    if best := sorted(ads, key=lambda ad: -ad[1])[:top]:
        shown = ", ".join(f"{ad_id} {ctr:.4g} {source}" for ad_id, ctr, source in best)
        rest = f", {len(ads) - top} more" if len(ads) > top else ""
        lines.append(printable(f"    {shown}{rest}"))
    return lines


def _stages(ms: object) -> str:
    if not isinstance(ms, Mapping) or not isinstance(total := ms.get("total"), int | float):
        return ""
    stages = ((name, ms.get(name)) for name in _STAGES)
    inside = ", ".join(f"{name} {value:.1f}" for name, value in stages if isinstance(value, int | float))
    return f"scored in {total:.1f} ms ({inside})"


def _ads(answer: Answer) -> list[tuple[str, float, str]]:
    """Id, rate and source of each ad; none if the columns do not fit."""
    columns = [answer.get(name) for name in ("ad_id", "ctr", "source")]
    ids, rates, sources = (column if isinstance(column, Sequence) else () for column in columns)
    if not len(ids) == len(rates) == len(sources) or not all(isinstance(rate, int | float) for rate in rates):
        return []
    return [(str(ad_id), float(rate), str(source)) for ad_id, rate, source in zip(ids, rates, sources, strict=True)]
