"""Whether a model has seen the rows on which it is judged; pure."""

from datetime import UTC, datetime

from model_training.lineage.lineage import Lineage, Rows


def seen_before(lineage: Lineage, rows: Rows, *, of_log: bool = False) -> str | None:
    """Why the model has seen `rows`, or may have; None if nothing known says so.

    It has if they are rows of a split from which it learnt, or by which it was chosen or calibrated. It may have if the
    times overlap. Parts of a log that meet at one time do not overlap, because the cut may divide the lines of that
    time; `prepare` keeps the rows of one time together.

    Args:
        of_log: whether `rows` are lines of a log.
    """
    data = lineage.data
    if data is None:
        return None
    may_meet = of_log or data.kind == "log"
    own = [(f"its split {name!r}", data.splits[name]) for name in data.seen if name in data.splits]
    for where, known in [*own, *(("seen before its warm start", part) for part in data.before or ())]:
        if known.sha256 == rows.sha256:
            return f"it was trained with these rows ({where})"
        if known.first_ms is None or known.last_ms is None or rows.first_ms is None or rows.last_ms is None:
            continue
        common = min(known.last_ms, rows.last_ms) - max(known.first_ms, rows.first_ms)
        meets = common == 0 and (known.last_ms == rows.first_ms or rows.last_ms == known.first_ms)
        if common >= 0 and not (meets and may_meet):
            return (
                f"it was trained with rows from {at(known.first_ms)} to {at(known.last_ms)} ({where}), and"
                f" these are from {at(rows.first_ms)} to {at(rows.last_ms)}"
            )
    return None


def can_tell(lineage: Lineage, rows: Rows) -> bool:
    """Whether the record has the times that `seen_before` compares."""
    if lineage.data is None:
        return True
    seen = lineage.data.all_seen
    if rows.first_ms is None or seen is None or not set(lineage.data.seen) <= set(lineage.data.splits):
        return False
    return all(part.first_ms is not None for part in seen)


def at(ms: int) -> str:
    """A time in ms since 1970, in UTC, for a person."""
    try:
        return datetime.fromtimestamp(ms / 1000, UTC).strftime("%Y-%m-%d %H:%M:%S")
    except (OverflowError, ValueError, OSError):
        return f"{ms} ms"
