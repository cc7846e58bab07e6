"""Whether a model has seen the rows on which it is judged; pure."""

from datetime import UTC, datetime

from model_training.lineage.lineage import Lineage, Rows


def seen_before(lineage: Lineage, rows: Rows) -> str | None:
    """Why the model has seen `rows`, or may have; None if nothing known says so.

    It has if they are rows of a split from which it learnt, or by which it was chosen or calibrated. It may have if the
    times overlap. Splits that meet at one time do not: the cut of a log may divide the lines of one time.
    """
    data = lineage.data
    if data is None:
        return None
    own = [(f"its split {name!r}", data.splits[name]) for name in data.seen if name in data.splits]
    for where, known in [*own, *(("seen before its warm start", part) for part in data.before or ())]:
        if known.sha256 == rows.sha256:
            return f"it was trained with these rows ({where})"
        if known.first_ms is None or known.last_ms is None or rows.first_ms is None or rows.last_ms is None:
            continue
        if rows.first_ms < known.last_ms and known.first_ms < rows.last_ms:
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
