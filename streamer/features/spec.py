"""The feature spec: the one contract between bidders, scorer, training and the model itself."""

import hashlib
import json
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import fields
from functools import cached_property
from pathlib import Path
from typing import Annotated, Literal, Self

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from streamer.errors import SpecError
from streamer.features.hashing import HASHING_VERSION
from streamer.features.paths import parse_path
from streamer.types import RequestPaths

Side = Literal["user", "context", "candidate"]
Group = Literal["request", "candidate", "pair"]
"""Where an encoded column travels: once a request (user and context), once a candidate, or once a candidate because it
crosses a request's value with a candidate's."""

Word = Annotated[str, Field(min_length=1)]
"""The empty string counts as missing, so it is neither a word nor a default."""

MAX_CROSS_WIDTH = 64
_MAX_ROWS = 2**31 - 1


class _Value(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class _Feature(_Value):
    name: str = Field(pattern=r"^[A-Za-z][A-Za-z0-9_]*$")
    wide: bool = False
    deep: bool = False


class _Scalar(_Feature):
    path: str
    side: Side

    @model_validator(mode="after")
    def _path_is_readable(self) -> Self:
        try:
            parse_path(self.path)
        except SpecError as error:
            raise ValueError(str(error)) from None
        return self


class Categorical(_Scalar):
    """One string, number or boolean, hashed into `buckets` rows, the first of which is for a missing value.

    With a `vocabulary` nothing is hashed: one row for missing, one for unknown, then one for each word.
    """

    kind: Literal["categorical"]
    buckets: int = Field(default=0, ge=0)
    vocabulary: tuple[Word, ...] = ()
    default: Word | None = None

    @model_validator(mode="after")
    def _buckets_or_vocabulary(self) -> Self:
        if bool(self.buckets) == bool(self.vocabulary):
            raise ValueError("give either buckets or a vocabulary")
        if self.buckets == 1:
            raise ValueError("buckets: at least 2, as the first is for a missing value")
        if len(set(self.vocabulary)) != len(self.vocabulary):
            raise ValueError("vocabulary: a word stands twice")
        return self

    @property
    def rows(self) -> int:
        """Rows of the fused table."""
        return len(self.vocabulary) + 2 if self.vocabulary else self.buckets


class MultiValued(_Scalar):
    """A list of up to `max_values` values, hashed into `buckets` rows and pooled; what is beyond is dropped.

    Absent values are padding (id 0), which takes no part in the pooling. A scalar counts as a list of one.
    """

    kind: Literal["multi_valued"]
    buckets: int = Field(ge=1)
    max_values: int = Field(ge=1, le=64)
    pooling: Literal["mean", "sum"] = "mean"
    default: Word | None = None

    @property
    def rows(self) -> int:
        """Rows of the fused table."""
        return self.buckets


class Numeric(_Scalar):
    """A number for the float matrix: (log1p of it if `log`, minus `mean`) / `std`, clipped to ± `clip`.

    A missing value is `default`, in the units of the document; without a default it becomes 0, the mean.
    """

    kind: Literal["numeric"]
    mean: float = 0.0
    std: float = Field(default=1.0, gt=0)
    log: bool = False
    clip: float = Field(default=10.0, gt=0, le=1e30)
    default: float | None = None


class Bucketised(_Scalar):
    """A number's bucket among sorted `boundaries`: row 0 is for missing, row i for boundaries[i-2] <= x < [i-1]."""

    kind: Literal["bucketised"]
    boundaries: tuple[float, ...] = Field(min_length=1)
    default: float | None = None

    @model_validator(mode="after")
    def _sorted(self) -> Self:
        if any(a >= b for a, b in zip(self.boundaries, self.boundaries[1:], strict=False)):
            raise ValueError("boundaries: must rise strictly")
        return self

    @property
    def rows(self) -> int:
        """Rows of the fused table."""
        return len(self.boundaries) + 2


class Cross(_Feature):
    """Two or three categorical, multi-valued or bucketised features seen as one: the product of their values."""

    kind: Literal["cross"]
    of: tuple[str, ...] = Field(min_length=2, max_length=3)
    buckets: int = Field(ge=1)

    @property
    def rows(self) -> int:
        """Rows of the fused table."""
        return self.buckets


Feature = Annotated[Categorical | MultiValued | Numeric | Bucketised | Cross, Field(discriminator="kind")]
HashedFeature = Categorical | MultiValued | Bucketised


class FlatServing(_Value):
    """How a model that was trained elsewhere is asked: which features make up each input of its own signature."""

    signature: str = "serving_default"
    inputs: Mapping[str, tuple[str, ...]] = Field(min_length=1)
    output: str


class FeatureSpec(_Value):
    """A validated feature spec.

    Invariants: names are unique; a cross's parents exist, are hashed, and stand on known sides; the fused table fits
    int32. `prior` is the click probability to answer with where no model can be asked; `serving` is given for models
    that do not take the encoded form, and says how they are asked.
    """

    name: str
    embedding_dim: int = Field(ge=1, le=1024)
    prior: float = Field(default=0.01, gt=0, lt=1)
    request: RequestPaths = RequestPaths()
    features: tuple[Feature, ...] = Field(min_length=1)
    serving: FlatServing | None = None

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        for field in fields(self.request):
            try:
                parse_path(getattr(self.request, field.name))
            except SpecError as error:
                raise ValueError(f"request.{field.name}: {error}") from None
        twice = [name for name, count in Counter(f.name for f in self.features).items() if count > 1]
        if twice:
            raise ValueError(f"feature {twice[0]!r} is defined twice")
        for feature in self.features:
            if not (feature.wide or feature.deep) and not self._is_parent(feature.name):
                raise ValueError(f"feature {feature.name!r} is neither wide nor deep nor part of a cross")
            if isinstance(feature, Cross):
                self._check_cross(feature)
        self._check_serving()
        if sum(f.rows for f in self.features if not isinstance(f, Numeric)) >= _MAX_ROWS:
            raise ValueError("the fused table has more rows than int32 counts")
        return self

    def _check_serving(self) -> None:
        used = {f.name for f in self.features if f.wide or f.deep}
        for name, features in (self.serving.inputs if self.serving is not None else {}).items():
            for feature in features:
                if feature not in used:
                    raise ValueError(f"serving.inputs.{name}: no wide or deep feature is called {feature!r}")

    def _is_parent(self, name: str) -> bool:
        return any(isinstance(f, Cross) and name in f.of for f in self.features)

    def _check_cross(self, cross: Cross) -> None:
        if len(set(cross.of)) != len(cross.of):
            raise ValueError(f"cross {cross.name!r}: a parent stands twice")
        width = 1
        for name in cross.of:
            parent = next((f for f in self.features if f.name == name), None)
            if parent is None:
                raise ValueError(f"cross {cross.name!r}: no feature is called {name!r}")
            if isinstance(parent, Numeric | Cross):
                # A ValueError, because that is what pydantic turns into a line with the place.
                raise ValueError(f"cross {cross.name!r}: {name!r} is {parent.kind}; bucketise it to cross it")  # noqa: TRY004
            width *= parent.max_values if isinstance(parent, MultiValued) else 1
        if width > MAX_CROSS_WIDTH:
            raise ValueError(f"cross {cross.name!r}: {width} values a row, at most {MAX_CROSS_WIDTH}")

    @property
    def containers(self) -> frozenset[str]:
        """Top-level keys of the document that must be objects where they are present: some path leads into them."""
        return frozenset(steps[0] for steps in self._document_paths() if len(steps) > 1 and isinstance(steps[1], str))

    @property
    def document_keys(self) -> frozenset[str]:
        """Top-level keys of the document that features read, the candidates aside."""
        return frozenset(steps[0] for steps in self._document_paths())

    def _document_paths(self) -> Iterable[tuple[str, *tuple[str | int, ...]]]:
        for feature in self.features:
            if not isinstance(feature, Cross) and feature.side != "candidate":
                yield parse_path(feature.path)

    def parents(self, cross: Cross) -> tuple[HashedFeature, ...]:
        """A cross's parents in the order in which they are hashed: user, context, candidate, and as listed."""
        by_name = {f.name: f for f in self.features if isinstance(f, HashedFeature)}
        order = ("user", "context", "candidate")
        return tuple(sorted((by_name[name] for name in cross.of), key=lambda f: order.index(f.side)))

    def group(self, feature: Feature) -> Group:
        """Where the feature's columns travel."""
        if not isinstance(feature, Cross):
            return "candidate" if feature.side == "candidate" else "request"
        ends = {parent.side == "candidate" for parent in self.parents(feature)}
        if len(ends) == 2:
            return "pair"
        return "candidate" if ends == {True} else "request"

    def width(self, feature: Feature) -> int:
        """Ids a row."""
        if isinstance(feature, Cross):
            width = 1
            for parent in self.parents(feature):
                width *= self.width(parent)
            return width
        return feature.max_values if isinstance(feature, MultiValued) else 1

    def is_padded(self, feature: Feature) -> bool:
        """Whether some of its ids may be padding: of a multi-valued feature, or a cross of one."""
        some = self.parents(feature) if isinstance(feature, Cross) else (feature,)
        return any(isinstance(f, MultiValued) for f in some)

    @cached_property
    def hash(self) -> str:
        """16 hex digits over all that decides the encoded form. Equal hashes mean interchangeable encoders."""
        content = self.model_dump(mode="json", exclude={"name", "prior", "serving"})
        text = json.dumps([HASHING_VERSION, content], sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    def to_json(self) -> str:
        """The spec as JSON, as a model's `feature_spec` signature carries it."""
        return self.model_dump_json(exclude_defaults=True)

    @classmethod
    def from_json(cls, text: str | bytes, source: str = "feature spec") -> "FeatureSpec":
        """Reads what `to_json` wrote.

        Raises:
            SpecError: naming `source`, the feature, the field and the value.
        """
        try:
            return cls.from_mapping(json.loads(text), source)
        except ValueError as error:
            raise SpecError(f"{source}: not valid JSON: {error}") from None

    @classmethod
    def from_yaml(cls, path: Path) -> "FeatureSpec":
        """Reads a spec file.

        Raises:
            SpecError: naming the file, the feature, the field and the value; also if the file cannot be read.
        """
        try:
            content = yaml.safe_load(path.read_text(encoding="utf-8"))
        except (OSError, yaml.YAMLError) as error:
            raise SpecError(f"{path}: cannot be read: {error}") from error
        return cls.from_mapping(content, str(path))

    @classmethod
    def from_mapping(cls, content: object, source: str = "feature spec") -> "FeatureSpec":
        """Validates a spec given as plain values.

        Raises:
            SpecError: naming `source`, the feature, the field and the value.
        """
        if not isinstance(content, dict):
            raise SpecError(f"{source}: expected a mapping, got {type(content).__name__}")
        try:
            return cls.model_validate(content)
        except ValidationError as error:
            raise SpecError("\n".join(_readable(source, content, error))) from None


def _readable(source: str, content: dict[object, object], error: ValidationError) -> Iterable[str]:
    """One line an error, with the feature's name instead of its index."""
    for found in error.errors():
        where = [str(part) for part in found["loc"]]
        if where[:1] == ["features"] and len(where) > 1:
            features = content.get("features")
            index = int(where[1])
            feature = features[index] if isinstance(features, list) and index < len(features) else None
            name = feature.get("name", f"number {index + 1}") if isinstance(feature, dict) else f"number {index + 1}"
            kinds = {"categorical", "multi_valued", "numeric", "bucketised", "cross"}
            where = [f"feature {name!r}", *(part for part in where[2:] if part not in kinds)]
        got = found["input"]
        value = "" if isinstance(got, dict | list | tuple | BaseModel) else f" (got {got!r})"
        yield f"{source}: {'.'.join(where) or 'spec'}: {found['msg'].removeprefix('Value error, ')}{value}"
