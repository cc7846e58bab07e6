"""The kinds of features that a spec can define, and how each of them is validated."""

from bisect import bisect_right
from math import isfinite
from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from streamer.errors import SpecError
from streamer.features.paths import parse_path
from streamer.features.transforms import transform_of

Side = Literal["user", "context", "candidate"]

Word = Annotated[str, Field(min_length=1)]
"""A word of a vocabulary, or a default. The empty string counts as missing, so it is neither of them."""


EmbeddingDim = Annotated[int | None, Field(ge=1, le=1024)]
"""Dimensions of one feature's embedding; None for the spec's `embedding_dim`."""


class SpecValue(BaseModel):
    """A frozen part of a spec. It rejects unknown keys, infinity and NaN."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class _Feature(SpecValue):
    name: str = Field(pattern=r"^[A-Za-z][A-Za-z0-9_]*$")
    wide: bool = False
    deep: bool = False


class _Scalar(_Feature):
    """A feature of the value at `path`, changed by the transform `by` if there is one."""

    path: str
    side: Side
    by: str | None = Field(default=None, pattern=r"^[A-Za-z][A-Za-z0-9._-]*/[0-9]+$")

    @model_validator(mode="after")
    def _value_is_readable(self) -> Self:
        try:
            parse_path(self.path)
            if self.by is not None:
                transform_of(self.by)
        except SpecError as error:
            raise ValueError(str(error)) from None
        return self


class Categorical(_Scalar):
    """One string, number or boolean, hashed into `buckets` rows; row 0 is for missing.

    With a `vocabulary` nothing is hashed: one row for a missing value, one for an unknown word, then one for each word.
    With `shares` the feature has no rows of its own: equal values have the row that they have in the feature of this
    name.
    """

    kind: Literal["categorical"]
    buckets: int = Field(default=0, ge=0)
    vocabulary: tuple[Word, ...] = ()
    shares: str | None = None
    default: Word | None = None
    embedding_dim: EmbeddingDim = None

    @model_validator(mode="after")
    def _buckets_or_vocabulary(self) -> Self:
        if sum(map(bool, (self.buckets, self.vocabulary, self.shares))) != 1:
            raise ValueError("give either buckets or a vocabulary" + (", not with shares" if self.shares else ""))
        if self.buckets == 1:
            raise ValueError("buckets: at least 2, because the first one is for a missing value")
        if len(set(self.vocabulary)) != len(self.vocabulary):
            raise ValueError("vocabulary: a word occurs twice")
        return self

    @property
    def rows(self) -> int:
        """Rows of the fused table."""
        return len(self.vocabulary) + 2 if self.vocabulary else self.buckets


class MultiValued(_Scalar):
    """A list of values, hashed into `buckets` rows and pooled.

    The encoder keeps the first `max_values` values and drops the others. It fills free places with padding (id 0), and
    pooling ignores padding. A scalar counts as a list of one value. With `shares` the values have the rows of another
    feature, as in `Categorical`.
    """

    kind: Literal["multi_valued"]
    buckets: int = Field(default=0, ge=0)
    shares: str | None = None
    max_values: int = Field(ge=1, le=64)
    pooling: Literal["mean", "sum"] = "mean"
    default: Word | None = None
    embedding_dim: EmbeddingDim = None

    @model_validator(mode="after")
    def _buckets_or_shares(self) -> Self:
        if bool(self.buckets) == bool(self.shares):
            raise ValueError("give either buckets, at least 1, or shares")
        return self

    @property
    def rows(self) -> int:
        """Rows of the fused table."""
        return self.buckets


class Numeric(_Scalar):
    """A number for the float matrix: (x − `mean`) / `std`, clipped to ± `clip`.

    If `log` is set, log(1 + x) replaces x. A missing value becomes `default`, in the units of the
    document. Without a default it becomes 0, which is the mean. With `missing_indicator` a second float is 1 if the
    value is missing, else 0.
    """

    kind: Literal["numeric"]
    mean: float = 0.0
    std: float = Field(default=1.0, gt=0)
    log: bool = False
    clip: float = Field(default=10.0, gt=0, le=1e30)
    default: float | None = None
    missing_indicator: bool = False


class Bucketised(_Scalar):
    """The bucket of a number x among sorted `boundaries`.

    Row 0 is for a missing value; row i is for boundaries[i-2] <= x < boundaries[i-1].
    """

    kind: Literal["bucketised"]
    boundaries: tuple[float, ...] = Field(min_length=1)
    default: float | None = None
    embedding_dim: EmbeddingDim = None

    @model_validator(mode="after")
    def _sorted(self) -> Self:
        if any(a >= b for a, b in zip(self.boundaries, self.boundaries[1:], strict=False)):
            raise ValueError("boundaries: must rise strictly")
        return self

    @property
    def rows(self) -> int:
        """Rows of the fused table."""
        return len(self.boundaries) + 2

    def row(self, x: float) -> int:
        """The row of a number; where `x` is not finite, that of the default."""
        known = x if isfinite(x) else self.default
        return 0 if known is None else bisect_right(self.boundaries, known) + 1


class Cross(_Feature):
    """The product of two or three hashed features (kinds other than numeric and cross)."""

    kind: Literal["cross"]
    of: tuple[str, ...] = Field(min_length=2, max_length=3)
    buckets: int = Field(ge=1)
    embedding_dim: EmbeddingDim = None

    @property
    def rows(self) -> int:
        """Rows of the fused table."""
        return self.buckets


HashedFeature = Categorical | MultiValued | Bucketised
Feature = Annotated[Categorical | MultiValued | Numeric | Bucketised | Cross, Field(discriminator="kind")]
