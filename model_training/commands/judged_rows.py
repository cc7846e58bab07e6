"""The rows that versions are judged on: the same ones, encoded by the spec of each version."""

from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from model_training.commands.data import JudgeBy
from model_training.commands.output import console
from model_training.data.prepared import read_prepared
from model_training.errors import ConfigError, DataError

if TYPE_CHECKING:
    from model_training.data.examples import Examples
    from streamer.features import FeatureSpec

_SPARK_MASTER = "local[2]"
_NO_IDENTITIES = (
    "an older version wrote these records, without users and requests: run prepare again to measure by them"
)


class JudgedRows:
    """One split of prepared data, in the encoding of any spec.

    Invariant: all encodings have the same rows in the same order, as the checksums of keys, times and labels show.

    Args:
        others: folders with the same rows, each with another spec.

    Raises:
        DataError: a folder cannot be read, or has no such split.
    """

    def __init__(self, prepared: Path, others: Sequence[Path], split: JudgeBy) -> None:
        self._prepared, self._split = prepared, split
        self._specs = {folder: read_prepared(folder).split(split).spec_hash for folder in (prepared, *others)}
        self._used = {prepared}

    def unused(self) -> list[Path]:
        """The other folders that no call of `examples` has read."""
        return [folder for folder in self._specs if folder not in self._used]

    def examples(self, spec: "FeatureSpec") -> "Examples":
        """The rows encoded by `spec`: of the folder that has it, else again from the log.

        Raises:
            NoExpressionError: the log has no expression for a feature of `spec`.
            ConfigError: Spark cannot start.
            DataError: a folder cannot be read, is damaged or has other rows, or the log has changed.
        """
        from model_training.data.training_data import prepared_split  # noqa: PLC0415

        for folder, spec_hash in self._specs.items():
            if spec_hash == spec.hash:
                self._used.add(folder)
                if folder != self._prepared:
                    self._check_rows(folder, f"{folder}: prepare the same log with the same key and shards")
                found = prepared_split(folder, self._split, spec)
                if found.identities is None:
                    console.print(f"{folder}: {_NO_IDENTITIES}", style="yellow", soft_wrap=True)
                return found
        return self._encoded_again(spec)

    def _encoded_again(self, spec: "FeatureSpec") -> "Examples":
        from model_training.data.training_data import prepared_split  # noqa: PLC0415
        from model_training.preparation import session  # noqa: PLC0415 - loads PySpark
        from model_training.preparation.again import check_expressions, encode_again  # noqa: PLC0415

        self._checksums(self._prepared)  # fails before the work
        prepared, named = read_prepared(self._prepared), f"spec {spec.name!r} ({spec.hash})"
        with TemporaryDirectory() as scratch:
            try:
                check_expressions(prepared, spec)
                console.print(f"encoding split {self._split} of {self._prepared} again with {named}", soft_wrap=True)
                with session.spark_session(_SPARK_MASTER) as spark:
                    encode_again(spark, prepared, self._split, spec, Path(scratch))
            except (ConfigError, DataError) as error:
                raise type(error)(
                    f"{self._prepared}: cannot be encoded again with {named} of a compared version: {error};"
                    " --also-prepared takes data that were prepared with it"
                ) from error
            self._check_rows(Path(scratch), "its log, which has changed: run prepare again")
            return prepared_split(Path(scratch), self._split, spec)

    def _check_rows(self, folder: Path, why: str) -> None:
        """Rejects a folder whose rows are not those of the prepared data."""
        if self._checksums(self._prepared) != self._checksums(folder):
            raise DataError(f"{self._prepared}: the rows of its split {self._split} are not those of {why}")

    def _checksums(self, folder: Path) -> list[str]:
        found = [shard.rows for shard in read_prepared(folder).split(self._split).shards]
        if not all(found):
            raise DataError(f"{folder}: an older version prepared it, without checksums of its rows: run prepare again")
        return found
