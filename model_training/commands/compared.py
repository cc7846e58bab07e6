"""The versions with which a candidate is compared, on rows that each one's spec encodes."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

from model_training.commands.data import JudgeBy
from model_training.commands.judged_rows import JudgedRows
from model_training.commands.output import console
from model_training.errors import BrokenVersionError, ExportError, NoExpressionError, TrainingError
from model_training.export.versions import found_in

if TYPE_CHECKING:
    from model_training.data.examples import Examples
    from model_training.export.servable import Servable
    from model_training.export.served import Served
    from model_training.publishing.card import Best
    from model_training.publishing.evaluation import Evaluation
    from streamer.features import FeatureSpec


@dataclass(frozen=True, slots=True)
class RowOptions:
    """The options that name the rows on which versions are judged."""

    log: Path | None
    prepared: Path | None
    also_prepared: Sequence[Path]
    judge_by: JudgeBy
    holdout: float
    user_path: str | None


@dataclass(frozen=True, slots=True)
class Bar:
    """The best version of the window.

    Attributes:
        best: None if no version can be the best one.
        servable: the version, if it is to be compared beside the served one.
        is_compared: whether it is compared; false if that is not possible at present.
        skipped: each better placed version that can never be compared, and why.
    """

    best: "Best | None" = None
    servable: "Servable | None" = None
    is_compared: bool = False
    skipped: tuple[str, ...] = ()


class Comparison:
    """A candidate, and the rows on which it is compared with other versions.

    Raises:
        ExportError: the candidate cannot be loaded, or has another spec than `expected`.
        TrainingError: the rows cannot be read or encoded.
    """

    def __init__(self, candidate: Path, options: RowOptions, *, expected: "FeatureSpec | None" = None) -> None:
        from model_training.export.servable import Servable  # noqa: PLC0415 - loads TensorFlow

        self._options = options
        self._judged = None
        if options.prepared is not None:
            self._judged = JudgedRows(options.prepared, options.also_prepared, options.judge_by)
        self.candidate = Servable.load(candidate)
        if expected is not None and self.candidate.spec.hash != expected.hash:
            raise ExportError(f"{candidate}: has spec {self.candidate.spec.hash}, expected {expected.hash}")
        self._rows: dict[str, Examples] = {}
        self._rows_of(self.candidate.spec)

    def check(self, version: "Servable") -> None:
        """Scores the rows with a version.

        Raises:
            BrokenVersionError: the version fails on them, and always will.
            NoExpressionError: the log has no values for a feature of its spec.
            TrainingError: its rows cannot be encoded or scored at present.
        """
        rows = self._rows_of(version.spec)
        version.scores(rows.ids, rows.floats)

    def served(self, base_path: Path, *, force: bool = False) -> "Served":
        """The newest version of a folder that works on the rows; names newer ones that fail.

        Args:
            force: leave out a newest version whose rows cannot be encoded.

        Raises:
            TrainingError: the folder cannot be read, or as `check` of the newest version.
        """
        from model_training.export.served import Served  # noqa: PLC0415

        try:
            served = Served.of(base_path, self.check)
        except TrainingError as error:
            if not force:
                raise
            console.print(f"the served version is not compared: {error}", style="yellow", markup=False)
            return Served(tuple(found_in(base_path)), None, ())
        name_broken(served)
        return served

    def best(self, newest: Path, served: "Servable | None", days: float, now: datetime) -> Bar:
        """The best version of the window of `days` days; names the versions that cannot be it.

        A version that can never be compared is skipped: it is damaged, or the log no longer has values for a feature of
        its spec. One that cannot be compared at present stays the best one.

        Args:
            newest: the version whose card names the best one.
            served: the version that is compared in any case.

        Raises:
            ExportError: a folder of versions or a model card cannot be read.
        """
        from model_training.export.servable import Servable  # noqa: PLC0415
        from model_training.publishing.window import candidates  # noqa: PLC0415

        skipped: tuple[str, ...] = ()
        for best, path in candidates(newest, days, now):
            if served is not None and path == served.path:
                return Bar(best, None, is_compared=True, skipped=skipped)
            try:
                version = Servable.load(path)
                self.check(version)
            except (BrokenVersionError, NoExpressionError) as error:
                skipped = (*skipped, str(error))
                console.print(
                    f"version {best.version} can no longer be the best of the window: {error}",
                    style="yellow", markup=False, soft_wrap=True,
                )  # fmt: skip
            except TrainingError as error:
                console.print(
                    f"the best version of the window, {best.version}, is not compared this time, and stays the best:"
                    f" {error}",
                    style="yellow", markup=False, soft_wrap=True,
                )  # fmt: skip
                return Bar(best, None, is_compared=False, skipped=skipped)
            else:
                return Bar(best, version, is_compared=True, skipped=skipped)
        return Bar(skipped=skipped)

    def evaluate(self, served: "Servable | None", best: "Servable | None" = None) -> "Evaluation":
        """Evaluates the candidate, and compares it with versions that `check` accepts.

        Raises:
            TrainingError: see `model_training.publishing.candidate.evaluate`.
        """
        from model_training.publishing.candidate import evaluate  # noqa: PLC0415

        for folder in self._judged.unused() if self._judged is not None else ():
            console.print(
                f"--also-prepared {folder}: not used, because no compared version needs its spec",
                style="yellow", markup=False, soft_wrap=True,
            )  # fmt: skip
        return evaluate(self.candidate, served, self._rows, best=best)

    def _rows_of(self, spec: "FeatureSpec") -> "Examples":
        from model_training.data.training_data import later_lines  # noqa: PLC0415

        if spec.hash not in self._rows:
            if self._judged is not None:
                self._rows[spec.hash] = self._judged.examples(spec)
            else:
                log, options = self._options.log, self._options
                assert log is not None
                self._rows[spec.hash] = later_lines(log, spec, holdout=options.holdout, user_path=options.user_path)
        return self._rows[spec.hash]


def name_broken(served: "Served") -> None:
    """Prints a line for each version that is newer than the served one."""
    for broken in served.broken:
        console.print(f"{broken}; skipped, but servers try to load it", style="yellow", markup=False, soft_wrap=True)
