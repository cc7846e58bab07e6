"""Tables and their text, as Markdown. Pure."""

from collections.abc import Iterator, Mapping, Sequence

from benchmarks.quality.judging import BASELINE, TRUTH, Interval, Judged, Judgement
from benchmarks.quality.results import Results, Trial

MARKS = BEGIN, END = "<!-- made by `make quality`: begin -->", "<!-- made by `make quality`: end -->"
NAMES: Mapping[str, str] = {
    "truth": "true probabilities",
    "logistic_regression": "logistic regression",
    "wide_deep": "Wide & Deep",
    "deepfm": "DeepFM",
    "xdeepfm": "xDeepFM",
    "dcn": "Deep & Cross",
    "dcn_v2": "Deep & Cross v2",
}


def section(
    found: Mapping[str, tuple[str, Results, Judgement]], pictures: Mapping[str, Sequence[tuple[str, str]]]
) -> str:
    """The parts of all logs, one after the other.

    Args:
        found: title, results and judgement, by log.
        pictures: file in `docs/images` and title of each picture, by log.
    """
    parts = []
    for name, (title, results, judgement) in found.items():
        shown = [f"![{text}](images/{file})" for file, text in pictures.get(name, ())]
        lines = [f"### {title}", *log_part(results, judgement), *shown]
        parts.append("\n\n".join(lines))
    return "\n\n".join(parts)


def log_part(results: Results, judgement: Judgement) -> Iterator[str]:
    """The paragraphs and the table of one log."""
    trial = next(iter(results.trials.values()))
    held_out = results.held_out
    clicks = int(held_out.labels.sum())
    yield (
        f"{trial.rows:,} rows to train on, {trial.clicks:,} of them clicked{_sampled(trial.sampling_rate)}; judged on"
        f" {len(held_out.labels):,} others with {clicks:,} clicks. In brackets are 95 % bootstrap intervals. GAUC is of"
        f" the {judgement.judged_users:,} users who have both clicks and non-clicks."
    )
    yield "\n".join(table(results, judgement))
    if len(results.trials) > 1:
        yield order(judgement)
    else:
        yield from _against_chance(next(iter(results.trials)), judgement)


def table(results: Results, judgement: Judgement) -> Iterator[str]:
    """One row per model; with known probabilities, with the share of the gap that it closes."""
    known = TRUTH in judgement.judged and BASELINE in judgement.judged
    head = [
        "model",
        "AUC",
        *(["gap closed"] if known else []),
        "log loss",
        "calibration error",
        "GAUC",
        "passes",
        "training",
        "parameters",
    ]
    yield f"| {' | '.join(head)} |"
    yield f"|{'---|' * len(head)}"
    names = [*([TRUTH] if TRUTH in judgement.judged else []), *results.trials]
    for name in names:
        judged, trial = judgement.judged[name], results.trials.get(name)
        gap = [f"{100 * judgement.closed(name):.0f} %"] if known else []
        yield f"| {' | '.join([NAMES[name], _shown(judged.auc), *gap, *_measures(judged), *_cost(trial)])} |"


def order(judgement: Judgement) -> str:
    """Text about the order of the models that the intervals prove."""
    if not judgement.above:
        return (
            f"**No ranking.** Of the {judgement.pairs} pairs of models none differ in AUC by more than chance"
            " (intervals of all paired differences together, 95 %, Bonferroni): these rows cannot tell them apart."
        )
    worse_than: dict[str, list[str]] = {}
    for better, worse in judgement.above:
        worse_than.setdefault(better, []).append(NAMES[worse])
    sentences = [f"{NAMES[better]} above {_listed(worse)}" for better, worse in worse_than.items()]
    rest = judgement.pairs - len(judgement.above)
    others = f" The other {rest} of {judgement.pairs} pairs cannot be told apart on these rows." if rest else ""
    return (
        "**What differs in AUC by more than chance** (intervals of all paired differences together, 95 %, Bonferroni): "
        + f"{'; '.join(sentences)}.{others}"
    )


def _sampled(rate: float) -> str:
    return "" if rate == 1 else f", with {100 * rate:g} % of the non-clicks"


def _against_chance(model: str, judgement: Judgement) -> Iterator[str]:
    found = judgement.judged[model].auc
    if found.low <= 0.5 <= found.high:
        yield f"The interval of {NAMES[model]}'s AUC contains 0.5: it is not shown to be better than chance."


def _shown(interval: Interval) -> str:
    return f"{interval.value:.4f} ({interval.low:.4f}–{interval.high:.4f})"


def _measures(judged: Judged) -> list[str]:
    return [_shown(judged.log_loss), f"{judged.calibration_error:.4f}", _shown(judged.gauc)]


def _cost(trial: Trial | None) -> list[str]:
    if trial is None:
        return ["", "", ""]
    return [f"{trial.epochs}", f"{trial.seconds:.{1 if trial.seconds < 10 else 0}f} s", f"{trial.parameters:,}"]


def _listed(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"
