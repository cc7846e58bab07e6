"""How a log becomes training data: frozen values from `configs/prepare/*.yaml`."""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Literal, Self, get_args

from pydantic import AwareDatetime, Field, model_validator

from model_training.config.reading import Kinds, Value, read_yaml
from streamer.features import SpecError
from streamer.features.paths import parse_path

Expression = Annotated[str, Field(min_length=1)]
"""A Spark SQL expression over the log's columns; a column's name is an expression."""

Globs = Annotated[tuple[str, ...], Field(min_length=1)]
"""Paths with wildcards, as Spark reads them; a relative path starts at the working directory."""

_WHOLE = 1e-9
_UNCOUNTED = {"mode": "dropmalformed", "ignorecorruptfiles": "true", "ignoremissingfiles": "true"}


class TableSource(Value):
    """A log with one row per impression.

    Attributes:
        options: options of Spark's reader, such as `sep`. By default CSV has a header and the dialect of RFC 4180; its
            values are text.
        label: 1 or true for a click, 0 or false for none.
        time: the time of the impression, a timestamp in UTC.
        key: identifies a row, for sampling and sharding; by default all columns together.
        user_id, request_id: identify the user and the request of a row, for measures by user and by request; without
            them these are not known. They are no features.
        weight: how much a row counts in the loss and in metrics, a number above 0; by default each counts 1.
        request, candidate: an expression for each path that the feature spec reads: paths of user and context, and
            paths of the candidate that was shown.
        after_event: columns that are known only after the impression; a feature that uses one is rejected.
    """

    kind: Literal["table"]
    format: Literal["csv", "json", "parquet"]
    paths: Globs
    options: Mapping[str, str] = {}
    label: Expression
    time: Expression
    key: Expression | None = None
    user_id: Expression | None = None
    request_id: Expression | None = None
    weight: Expression | None = None
    request: Mapping[str, Expression] = {}
    candidate: Mapping[str, Expression] = {}
    after_event: tuple[str, ...] = ()

    @model_validator(mode="after")
    def _counts_all_rows(self) -> Self:
        for name, value in self.options.items():
            if value.lower() == _UNCOUNTED.get(name.lower()):
                raise ValueError(f"source.options.{name}: {value} would leave out rows without counting them")
        return self


class TopicsSource(Value):
    """JSON lines of topics: `impressions`, `clicks`, and `bid-requests` or `feature-log`.

    An impression or click is `{"request_id": …, "ad_id": …, "timestamp_ms": …}`.

    Attributes:
        bid_requests: the requests; they are encoded here in the same way as by the scorer.
        feature_log: used instead of `bid_requests`: the rows that the scorer encoded and logged.
        ads: all changes of the topic of ads, for requests that name ads by id; a compacted topic forgets them. Values
            that a request does not give are those of the ad at the request.
        answers: the scorer's answers. They say which changes a request saw; without them its time decides, about.
        user_id: path of the user's id in a request, such as `user.id`, for measures by user; without it users are not
            known. A feature log has no users.
        click_window_s: a click counts up to this time after its impression. An impression whose window is still open
            at the end of the log is dropped, because its label is not known.
        max_clock_skew_s: the clocks that give the events their times differ by at most this. A click up to this time
            before its impression counts. Events later than this after the end of the log are dropped; wrong clocks do
            not decide where it ends. A minute covers machines whose clocks are set by NTP and late reports, and is
            short in comparison with the window.
    """

    kind: Literal["topics"]
    bid_requests: Globs | None = None
    feature_log: Globs | None = None
    ads: Globs | None = None
    answers: Globs | None = None
    impressions: Globs
    clicks: Globs
    user_id: str | None = None
    click_window_s: float = Field(default=1800.0, gt=0)
    max_clock_skew_s: float = Field(default=60.0, ge=0.001)

    @model_validator(mode="after")
    def _requests_or_rows(self) -> Self:
        if (self.bid_requests is None) is (self.feature_log is None):
            raise ValueError("source: one of bid_requests and feature_log is needed")
        if self.ads is not None and self.feature_log is not None:
            raise ValueError("source.ads: a feature log has the ads as they were; remove it")
        if self.answers is not None and self.ads is None:
            raise ValueError("source.answers: they are only needed with source.ads")
        if self.user_id is not None:
            if self.feature_log is not None:
                raise ValueError("source.user_id: a feature log has no users; remove it")
            try:
                parse_path(self.user_id)
            except SpecError as error:
                raise ValueError(f"source.user_id: {error}") from None
        return self


Source = Annotated[TableSource | TopicsSource, Field(discriminator="kind")]
SOURCES: Kinds = {
    str(get_args(member.model_fields["kind"].annotation)[0]): member for member in (TableSource, TopicsSource)
}


class SplitConfig(Value):
    """Cuts the log by time: by shares of the rows, or at given times.

    Rows of the same time stay together, so the shares are met as closely as the log's times allow.

    Attributes:
        train, validation, test: shares with sum 1; `validation` and `test` may be 0.
        validation_from, test_from: start times of these splits; a split without a time does not exist.
    """

    train: float = Field(default=0.8, gt=0, le=1)
    validation: float = Field(default=0.1, ge=0, lt=1)
    test: float = Field(default=0.1, ge=0, lt=1)
    validation_from: AwareDatetime | None = None
    test_from: AwareDatetime | None = None

    @model_validator(mode="after")
    def _shares_or_times(self) -> Self:
        by_share = self.model_fields_set & {"train", "validation", "test"}
        if self.validation_from is None and self.test_from is None:
            if abs(self.train + self.validation + self.test - 1) > _WHOLE:
                raise ValueError(
                    f"split: train, validation and test are shares with sum 1, not"
                    f" {self.train + self.validation + self.test:g}"
                )
        elif by_share:
            raise ValueError(f"split: give shares ({', '.join(sorted(by_share))}) or times, not both")
        elif self.validation_from and self.test_from and self.test_from <= self.validation_from:
            raise ValueError("split.test_from: must be later than validation_from")
        return self


class PrepareConfig(Value):
    """One preparation.

    Attributes:
        spec: the feature spec's file; in a config file the path is relative to that file.
        negative_sampling_rate: share of the non-clicks that the training split keeps; validation and test keep all. A
            hash of the row's key and of `seed` chooses them, so each preparation keeps the same ones.
        max_dropped_share: above this share of dropped rows the preparation fails, because the config then fits the log
            badly. Not counted are impressions whose label is not known yet, and of a feature log those that it does not
            have under this spec.
        shards: files per split.
        quantiles: number of buckets of equal count for which `statistics.json` has the boundaries.
    """

    spec: Path
    source: Source
    split: SplitConfig = SplitConfig()
    negative_sampling_rate: float = Field(default=1.0, gt=0, le=1)
    seed: int = 1
    max_dropped_share: float = Field(default=0.05, ge=0, le=1)
    shards: int = Field(default=8, ge=1, le=9999)
    quantiles: int = Field(default=10, ge=2, le=1000)

    @property
    def is_encoded(self) -> bool:
        """Whether the log contains encoded rows instead of values."""
        return isinstance(self.source, TopicsSource) and self.source.feature_log is not None

    @classmethod
    def from_yaml(cls, path: Path) -> "PrepareConfig":
        """Reads a config file.

        Raises:
            ConfigError: names the file, the key and the value, and for an unknown key the nearest valid one.
        """
        config = read_yaml(cls, path, {"source": SOURCES})
        return config.model_copy(update={"spec": path.parent / config.spec})
