"""How a log becomes training data: frozen values read from `configs/prepare/*.yaml`."""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Literal, Self, get_args

from pydantic import AwareDatetime, Field, model_validator

from model_training.config.reading import Kinds, Value, read_yaml

Expression = Annotated[str, Field(min_length=1)]
"""Spark SQL over the log's columns; the name of a column is one."""

Globs = Annotated[tuple[str, ...], Field(min_length=1)]
"""Files, with wildcards, as Spark reads them; relative ones start at the working directory."""

_WHOLE = 1e-9


class TableSource(Value):
    """A log of one row an impression.

    Attributes:
        options: of Spark's reader, such as `sep`; CSV has a header unless they say otherwise, and its values are text.
        label: 1 or true for a click, 0 or false for none.
        time: when the ad was shown, a timestamp in UTC.
        key: what tells rows apart, for sampling and sharding; by default all columns together.
        request, candidate: the value of each path that the feature spec reads, by path: of user and context, and of the
            candidate that was shown.
        after_event: columns that are only known after the ad was shown; features that use one are refused.
    """

    kind: Literal["table"]
    format: Literal["csv", "json", "parquet"]
    paths: Globs
    options: Mapping[str, str] = {}
    label: Expression
    time: Expression
    key: Expression | None = None
    request: Mapping[str, Expression] = {}
    candidate: Mapping[str, Expression] = {}
    after_event: tuple[str, ...] = ()


class TopicsSource(Value):
    """JSON lines of the topics `impressions` and `clicks`, and of `bid-requests` or `feature-log`.

    An impression or click is `{"request_id": …, "ad_id": …, "timestamp_ms": …}`.

    Attributes:
        bid_requests: what was asked, which is encoded here as the scorer does.
        feature_log: instead of it, the rows that the scorer had encoded, of those requests that it logged.
        click_window_s: how long after its impression a click still counts. Impressions whose window was not over when
            the log ended are left out: nobody knows their label.
    """

    kind: Literal["topics"]
    bid_requests: Globs | None = None
    feature_log: Globs | None = None
    impressions: Globs
    clicks: Globs
    click_window_s: float = Field(default=1800.0, gt=0)

    @model_validator(mode="after")
    def _requests_or_rows(self) -> Self:
        if (self.bid_requests is None) is (self.feature_log is None):
            raise ValueError("source: one of bid_requests and feature_log is needed")
        return self


Source = Annotated[TableSource | TopicsSource, Field(discriminator="kind")]
SOURCES: Kinds = {
    str(get_args(member.model_fields["kind"].annotation)[0]): member for member in (TableSource, TopicsSource)
}


class SplitConfig(Value):
    """Earlier rows train, later ones judge: by shares of the rows, or at given times.

    Rows of one time are never parted, so shares are met as nearly as the log's times allow.

    Attributes:
        train, validation, test: shares, with sum 1; `test` may be 0.
        validation_from, test_from: the first moments of these splits; without `test_from` there is no test.
    """

    train: float = Field(default=0.8, gt=0, lt=1)
    validation: float = Field(default=0.1, gt=0, lt=1)
    test: float = Field(default=0.1, ge=0, lt=1)
    validation_from: AwareDatetime | None = None
    test_from: AwareDatetime | None = None

    @model_validator(mode="after")
    def _shares_or_times(self) -> Self:
        by_share = self.model_fields_set & {"train", "validation", "test"}
        if self.validation_from is None:
            if self.test_from is not None:
                raise ValueError("split.test_from: needs validation_from")
            if abs(self.train + self.validation + self.test - 1) > _WHOLE:
                raise ValueError(
                    f"split: train, validation and test are shares with sum 1, not"
                    f" {self.train + self.validation + self.test:g}"
                )
        elif by_share:
            raise ValueError(f"split: give shares ({', '.join(sorted(by_share))}) or times, not both")
        elif self.test_from is not None and self.test_from <= self.validation_from:
            raise ValueError("split.test_from: must be later than validation_from")
        return self


class PrepareConfig(Value):
    """One preparation.

    Attributes:
        spec: the feature spec's file; in a config file it is relative to that file.
        negative_sampling_rate: share of the non-clicks kept for training; validation and test keep all. Which ones is
            decided by a hash of the row's key and `seed`, so it is the same each time.
        shards: files a split.
        quantiles: of bucketised features, into how many buckets of equal count `statistics.json` parts them.
    """

    spec: Path
    source: Source
    split: SplitConfig = SplitConfig()
    negative_sampling_rate: float = Field(default=1.0, gt=0, le=1)
    seed: int = 1
    shards: int = Field(default=8, ge=1, le=9999)
    quantiles: int = Field(default=10, ge=2, le=1000)

    @property
    def is_encoded(self) -> bool:
        """Whether the log holds encoded rows instead of values."""
        return isinstance(self.source, TopicsSource) and self.source.feature_log is not None

    @classmethod
    def from_yaml(cls, path: Path) -> "PrepareConfig":
        """Reads a config file.

        Raises:
            ConfigError: naming the file, the key and the value, and for an unknown key the nearest right one.
        """
        config = read_yaml(cls, path, {"source": SOURCES})
        return config.model_copy(update={"spec": path.parent / config.spec})
