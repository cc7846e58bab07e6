"""A log with one row per impression, in CSV, JSON lines or Parquet.

Columns feed features by the spec's paths.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from pyspark.errors import AnalysisException
from pyspark.sql import functions as f
from pyspark.sql import types as t

from model_training.config.preparation import TableSource
from model_training.data.examples import MAX_WEIGHT
from model_training.errors import ConfigError, DataError, NoExpressionError
from model_training.preparation.encoding import number_features
from model_training.preparation.json_values import json_values
from model_training.preparation.log_files import CORRUPT, LogFiles, read_files
from model_training.preparation.rows import KEY, LABEL, REASON, TIME_MS, WEIGHT, Rows, Values, first_line
from streamer.features import Cross, FeatureSpec
from streamer.features.consent import ConsentCheck, DenialRule
from streamer.features.coverage import read_features
from streamer.features.transforms import transform_of

if TYPE_CHECKING:
    import pyarrow as pa
    from pyspark.sql import Column, DataFrame, SparkSession

# No feature has such a name.
_CONSENT = "consent:"
_USER, _REQUEST = "user_id", "request_id"
_SCALARS = (t.StringType, t.BooleanType, t.IntegralType, t.FloatType, t.DoubleType, t.DecimalType, t.NullType)


@dataclass(frozen=True, slots=True)
class ColumnReader:
    """Reads the values of `features`, and of the paths of `rules`, from the columns f0, f1, ….

    `numbers` are the features whose NaN and infinity are counted; `transforms` has the `by` of features that have one.
    Through Arrow and not through pandas: pandas converts integers to floats if one is missing, and "3.0" is not the id
    "3".
    """

    features: tuple[str, ...]
    rules: tuple[DenialRule, ...]
    numbers: frozenset[str] = frozenset()
    transforms: Mapping[str, str] = field(default_factory=dict)

    def __call__(self, batch: "pa.RecordBatch") -> Values:
        columns = {
            name: json_values(batch.column(f"f{i}"), keep_infinite=name in self.numbers)
            for i, name in enumerate(self.features)
        }
        for name, by in self.transforms.items():
            columns[name] = list(map(transform_of(by), columns[name]))
        consent = ConsentCheck(self.rules)
        denied = [consent.denies_values(lambda path: columns[_CONSENT + path][row]) for row in range(batch.num_rows)]  # noqa: B023
        users, requests = (json_values(batch.column(name)) for name in (_USER, _REQUEST))
        return Values(columns, [None] * batch.num_rows, denied, users, requests)


def read_table(spark: "SparkSession", source: TableSource, spec: FeatureSpec, *, allow_unread: bool = False) -> Rows:
    """The rows of a table.

    Raises:
        ConfigError: an expression is invalid, has an unusable type, or uses a column that is known only after the
            event; or a feature has no expression, or an expression no feature.
        DataError: the files cannot be read, or one has no column that an expression uses.
    """
    by_feature = expressions_of(spec, source, allow_unread=allow_unread)
    files = read_files(spark, source)
    frame = files.frame
    missing = [column for column in source.after_event if column not in frame.columns]
    if missing:
        raise ConfigError(f"source.after_event: there is no column {missing[0]!r}; there are {_listed(frame.columns)}")
    own = [
        (f"source.{name}", getattr(source, name) or "") for name in ("label", "time", "key", _USER, _REQUEST, WEIGHT)
    ]
    _check_files(files, [*by_feature.values(), *own])
    label = _checked(frame, "source.label", source.label, (t.StringType, t.BooleanType, t.NumericType))
    time = _checked(frame, "source.time", source.time, (t.TimestampType, t.TimestampNTZType, t.DateType))
    key = f.hex(f.xxhash64(*[f.col(f"`{c}`") for c in frame.columns]))
    if source.key is not None:
        key = _checked(frame, "source.key", source.key, _SCALARS).cast("string")
    ids = [
        f.lit(None).cast("string") if id_ is None else _checked(frame, f"source.{name}", id_, _SCALARS)
        for name, id_ in ((_USER, source.user_id), (_REQUEST, source.request_id))
    ]
    weight = f.lit(1.0)
    if source.weight is not None:
        weight = _checked(frame, "source.weight", source.weight, (t.StringType, t.NumericType)).cast("double")
    known_before = frame.drop(*_after_event(frame, source))
    kinds = _types(known_before, frame, list(by_feature.values()))
    values = [
        _column(where, expression, kind, _SCALARS, lists=True).alias(f"f{i}")
        for i, ((where, expression), kind) in enumerate(zip(by_feature.values(), kinds, strict=True))
    ]
    # Text, such as every value of CSV, may be a number or a word.
    clicked = f.coalesce(label.cast("double"), label.cast("boolean").cast("double"))
    moment = f.unix_millis(time.cast("timestamp"))
    corrupt = f.col(CORRUPT).isNotNull() if CORRUPT in frame.columns else f.lit(False)
    reason = (
        f.when(corrupt, "record cannot be parsed")
        .when(label.isNull(), "no label")
        .when(clicked.isNull() | ~clicked.isin(0.0, 1.0), "label is neither 0 nor 1")
        .when(moment.isNull(), "time is missing or unreadable")
        .when(key.isNull(), "no key")
        .when(f.coalesce(~((weight > 0) & (weight <= MAX_WEIGHT)), f.lit(True)), "weight is no number above 0")
    )
    rows = frame.select(
        *(key.alias(KEY), moment.alias(TIME_MS), clicked.cast("int").alias(LABEL), reason.alias(REASON)),
        *(column.alias(name) for name, column in zip((_USER, _REQUEST), ids, strict=True)),
        *([] if source.weight is None else [weight.alias(WEIGHT)]),
        *values,
    )
    transforms = {feature.name: feature.by for feature in read_features(spec) if feature.by is not None}
    numbers = frozenset(feature.name for feature in number_features(spec) if feature.name not in transforms)
    return Rows(rows, ColumnReader(tuple(by_feature), spec.denial_rules, numbers, transforms))


def expressions_of(
    spec: FeatureSpec, source: TableSource, *, allow_unread: bool = False
) -> Mapping[str, tuple[str, str]]:
    """The expression, and its key in the config, of each feature and of each path of consent.

    Raises:
        NoExpressionError: a path that the spec reads has no expression.
        ConfigError: unless `allow_unread`, the spec does not read an expression's path.
    """
    found: dict[str, tuple[str, str]] = {}
    unread = {f"request.{path}" for path in source.request} | {f"candidate.{path}" for path in source.candidate}
    read = [
        (feature.name, f"feature {feature.name!r}", feature.side == "candidate", feature.path)
        for feature in spec.features
        if not isinstance(feature, Cross)
    ]
    read += [(_CONSENT + path, "the consent", False, path) for rule in spec.denial_rules for path in rule.paths]
    for name, what, of_candidate, path in read:
        end, mapping = ("candidate", source.candidate) if of_candidate else ("request", source.request)
        where = f"{end}.{path}"
        if path not in mapping:
            raise NoExpressionError(
                f"source.{where}: no expression for {what} of spec {spec.name!r};"
                ' write "null" if the log does not have it'
            )
        found[name] = (f"source.{where}", mapping[path])
        unread.discard(where)
    if unread and not allow_unread:
        raise ConfigError(f"source.{min(unread)}: no feature of spec {spec.name!r} reads this path")
    return found


def _check_files(files: LogFiles, expressions: Sequence[tuple[str, str]]) -> None:
    """Rejects a file without a column that an expression uses and that other files have."""
    for where, expression in expressions:
        for column in _used(files.frame, list(files.lacking), expression):
            raise DataError(
                f"{files.lacking[column]}: has no column {column!r}, which {where} uses and other files have: the file"
                " needs this column, or another separator, or does not belong to source.paths"
            )


def _after_event(frame: "DataFrame", source: TableSource) -> list[str]:
    """The columns that no feature may use: `after_event`, and those of the label."""
    return [*source.after_event, *_used(frame, frame.columns, source.label)]


def _used(frame: "DataFrame", columns: Sequence[str], expression: str) -> list[str]:
    """The columns without which the expression is invalid."""
    # A used column is also named in the text; asking Spark about every column is slow.
    named = [column for column in columns if column.lower() in expression.lower()]
    return [column for column in named if not _is_understood(frame.drop(column), expression)]


def _types(known_before: "DataFrame", whole: "DataFrame", expressions: Sequence[tuple[str, str]]) -> list[t.DataType]:
    """The types of expressions over the columns that are known before the event.

    Raises:
        ConfigError: an expression is invalid, or needs a column that only `whole` has.
    """
    try:
        # One query for all, because each query to Spark is slow.
        selected = known_before.select(*(f.expr(text).alias(f"f{i}") for i, (_, text) in enumerate(expressions)))
        return [field.dataType for field in selected.schema]
    except AnalysisException:
        return [_type(known_before, whole, where, expression) for where, expression in expressions]


def _type(frame: "DataFrame", whole: "DataFrame", where: str, expression: str) -> t.DataType:
    try:
        return frame.select(f.expr(expression)).schema[0].dataType
    except AnalysisException as error:
        hidden = [column for column in whole.columns if column not in frame.columns]
        if hidden and _is_understood(whole, expression):
            raise ConfigError(
                f"{where}: {expression!r} uses {_listed(_used(whole, hidden, expression))}, which is known only after"
                " the impression: the model would learn its own answer"
            ) from None
        raise ConfigError(f"{where}: {expression!r}: {first_line(error)}") from None


def _checked(frame: "DataFrame", where: str, expression: str, types: tuple[type[t.DataType], ...]) -> "Column":
    """The column of an expression, whose type must be one of `types`."""
    return _column(where, expression, _type(frame, frame, where, expression), types)


def _column(
    where: str, expression: str, kind: t.DataType, types: tuple[type[t.DataType], ...], *, lists: bool = False
) -> "Column":
    """The column of an expression; its type `kind` must be one of `types`.

    With `lists` it may also be a list of such a type.
    """
    element = kind.elementType if lists and isinstance(kind, t.ArrayType) else kind
    if not isinstance(element, types):
        raise ConfigError(
            f"{where}: {expression!r} is of type {kind.simpleString()}; cast it to one of {_listed_types(types)}"
        )
    if not isinstance(element, t.NullType):
        return f.expr(expression)
    # Arrow has no form for Spark's type without values.
    return f.expr(expression).cast("string" if element is kind else "array<string>")


def _is_understood(frame: "DataFrame", expression: str) -> bool:
    try:
        frame.select(f.expr(expression)).schema  # noqa: B018  reading the schema makes Spark analyse it
    except AnalysisException:
        return False
    return True


def _listed(names: Sequence[str]) -> str:
    return ", ".join(map(repr, names))


def _listed_types(types: tuple[type[t.DataType], ...]) -> str:
    return ", ".join(kind.__name__.removesuffix("Type").lower() for kind in types if kind is not t.NullType)
