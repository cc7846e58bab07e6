"""The share of rows or requests in which each feature has a value, and the file that has it."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

import orjson

from model_training.errors import DataError, in_a_line
from streamer.features.coverage import Coverage, Paths, ReadFeature

COVERAGE = "coverage.json"
Unit = Literal["rows", "requests"]


@dataclass(frozen=True, slots=True)
class FeatureCoverage:
    """The values of one feature in the data.

    Attributes:
        kind, path, side: of the feature.
        seen: rows or requests, by `unit`, in which a value was looked for.
        present: those with a value that the encoder can use.
        similar: of a feature that never has a value, the path in the data that is the same or the most similar one;
            None if it is not known.
    """

    kind: str
    path: str
    side: str
    unit: Unit
    seen: int
    present: int
    similar: str | None = None

    @property
    def share(self) -> float:
        """The share with a value."""
        return self.present / max(1, self.seen)

    def content(self) -> dict[str, object]:
        """The counts and the share, as JSON values."""
        return {**asdict(self), "share": self.share}

    def warning(self, name: str) -> str | None:
        """The sentence about a feature that never has a value; None if it has one."""
        if self.present or not self.seen:
            return None
        if self.similar == self.path:
            reason = f"the data has its path {self.path}, but no value there that kind {self.kind} can use"
        elif self.similar is not None:
            reason = f"the data does not have its path {self.path}; the most similar path is {self.similar}"
        else:
            reason = f"nothing is at its path {self.path}"
        return f"feature {name!r} has no value in {self.seen:,} {self.unit}: {reason}"


def feature_coverage(
    feature: ReadFeature, seen: int, present: int, unit: Unit, paths: Paths | None = None
) -> FeatureCoverage:
    """The coverage of a feature; `paths`: those of the data, if they are known."""
    similar = None if present or paths is None else paths.nearest(feature.path)
    return FeatureCoverage(feature.kind, feature.path, feature.side, unit, seen, present, similar)


def counted(coverage: Coverage) -> dict[str, FeatureCoverage]:
    """The coverage of a click log: of candidates by row, of user and context by request."""
    found: dict[str, FeatureCoverage] = {}
    for feature in coverage.features:
        name, of_candidate = feature.name, feature.side == "candidate"
        unit: Unit = "rows" if of_candidate else "requests"
        paths = coverage.paths["candidate" if of_candidate else "request"]
        found[name] = feature_coverage(feature, coverage.seen[name], coverage.present[name], unit, paths)
    return found


def warnings_of(found: Mapping[str, FeatureCoverage]) -> Sequence[str]:
    """A sentence for each feature that never has a value."""
    return [text for name, each in found.items() if (text := each.warning(name)) is not None]


def write_coverage(directory: Path, found: Mapping[str, FeatureCoverage]) -> None:
    """Writes the coverage by feature name.

    Raises:
        OSError: the file cannot be written.
    """
    content = {name: each.content() for name, each in found.items()}
    (directory / COVERAGE).write_bytes(orjson.dumps(content, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE))


def read_coverage(directory: Path) -> dict[str, FeatureCoverage]:
    """The coverage by feature name in a folder of records; empty if it has none.

    An older program wrote none, and a feature log has no values.

    Raises:
        DataError: the file cannot be read.
    """
    path = directory / COVERAGE
    try:
        content = orjson.loads(path.read_bytes())
        return {
            name: FeatureCoverage(**{field: found[field] for field in FeatureCoverage.__dataclass_fields__})
            for name, found in content.items()
        }
    except FileNotFoundError:
        return {}
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {in_a_line(error)}") from error
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise DataError(f"{path}: not a report of coverage: {error!r}") from error
