"""The feature spec: the one contract between bidders, scorer, training and the model itself."""

import hashlib
import json
import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import fields
from functools import cached_property
from math import prod
from pathlib import Path
from typing import Annotated, Literal, Self

import yaml
from pydantic import BaseModel, Field, ValidationError, model_validator

from streamer.errors import SpecError
from streamer.features.consent import Consent, DenialRule
from streamer.features.embeddings import ADDED, check_embedding
from streamer.features.flat_serving import FlatServing
from streamer.features.hashing import HASHING_VERSION
from streamer.features.kinds import Categorical, Cross, Feature, HashedFeature, MultiValued, Numeric, SpecValue
from streamer.features.paths import parse_path
from streamer.features.placeholders import reject_placeholders
from streamer.features.raw_kinds import RawFeature
from streamer.features.vocabulary_files import with_vocabularies
from streamer.types import RequestPaths

Group = Literal["request", "candidate", "pair"]
"""Which matrix holds an encoded column: `request` once per request (user and context), `candidate` once per candidate,
`pair` once per candidate for a cross of the request's value with the candidate's."""

_MAX_CROSS_WIDTH = 64
_MAX_ROWS = 2**31 - 1
# Far above any real spec; they bound the time and the memory that a damaged or hostile one can take.
_MAX_FEATURES = 1024
_MAX_COLUMNS = 4096
_SHOWN_ERRORS = 10
_NO_KEY = re.compile(r'["\\\x00-\x1f\ud800-\udfff]')
_CROSSED = "bucketise it to cross it"
_IN_EXAMPLES = "an Example takes numeric, text, integer, hashing and lookup"


AnyFeature = Annotated[Feature | RawFeature, Field(discriminator="kind")]


class FeatureSpec(SpecValue):
    """A validated feature spec.

    Invariants: (1) names are unique; (2) the parents of a cross exist and are hashed; (3) the fused table fits int32;
    (4) a row has at most 4,096 columns.

    Attributes:
        embedding_dim: dimensions of the embeddings of features that give no other number.
        prior: the click probability of an answer without a model.
        deadline_margin_ms: subtracted from the deadline in the document, milliseconds: what the bidder needs itself.
        consent: when a request's user features count as missing.
        serving: only for models that do not take the encoded form: how the scorer calls them.
    """

    name: str
    embedding_dim: int = Field(ge=1, le=1024)
    prior: float = Field(default=0.01, gt=0, lt=1)
    request: RequestPaths = RequestPaths()
    deadline_margin_ms: float = Field(default=0.0, ge=0)
    consent: Consent | None = None
    features: tuple[AnyFeature, ...] = Field(min_length=1, max_length=_MAX_FEATURES)
    serving: FlatServing | None = None

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        for field in fields(self.request):
            try:
                parse_path(getattr(self.request, field.name))
            except SpecError as error:
                raise ValueError(f"request.{field.name}: {error}") from None
        own = {parse_path(getattr(self.request, f.name))[0] for f in fields(self.request) if f.name != "ad_id"}
        if wrong := next((key for key in sorted(own | self.document_keys) if _NO_KEY.search(key)), None):
            raise ValueError(f"path {wrong!r:.200}: the parser takes no such character in a key of the document")
        twice = [name for name, count in Counter(f.name for f in self.features).items() if count > 1]
        if twice:
            raise ValueError(f"feature {twice[0]!r} is defined twice")
        parents = {name for f in self.features if isinstance(f, Cross) for name in f.of}
        by_name = {f.name: f for f in self.features}
        for feature in self.features:
            if isinstance(feature, RawFeature):
                self._check_raw(feature)
            elif not (feature.wide or feature.deep or feature.name in parents):
                raise ValueError(f"feature {feature.name!r} is neither wide nor deep nor part of a cross")
            if isinstance(feature, Cross):
                self._check_cross(feature)
            if not isinstance(feature, Numeric | RawFeature):
                check_embedding(feature, by_name)
        self._check_serving()
        if sum(f.rows for f in self.features if not isinstance(f, Numeric | RawFeature)) >= _MAX_ROWS:
            raise ValueError("the fused table has more rows than int32 can number")
        if (columns := sum(self.width(f) for f in self.features)) > _MAX_COLUMNS:
            raise ValueError(f"{columns} columns a row, at most {_MAX_COLUMNS}")
        return self

    def _check_raw(self, feature: RawFeature) -> None:
        if self.serving is None:
            raise ValueError(f"feature {feature.name!r}: kind {feature.kind} is only for the inputs of a `serving`")
        lists = (*self.serving.columns.values(), *(names.values() for names in self.serving.examples.values()))
        if not any(feature.name in names for names in lists):
            raise ValueError(f"feature {feature.name!r} is in no input of `serving`")

    def _check_serving(self) -> None:
        if self.serving is None:
            return
        if marked := next((f.name for f in self.features if isinstance(f, Numeric) and f.missing_indicator), None):
            raise ValueError(f"feature {marked!r}: a model of another project has no input for a missing_indicator")
        by_name = {f.name: f for f in self.features if f.wide or f.deep or isinstance(f, RawFeature)}
        for name, features in self.serving.columns.items():
            for feature in features:
                if feature not in by_name:
                    raise ValueError(f"serving.inputs.{name}: no wide or deep feature is called {feature!r}")
        for name, entries in self.serving.examples.items():
            for key, feature in entries.items():
                found = by_name.get(feature)
                where = f"serving.inputs.{name}.example.{key}"
                if found is None:
                    raise ValueError(f"{where}: no wide or deep feature is called {feature!r}")
                if not isinstance(found, Numeric | RawFeature):
                    # A ValueError, because pydantic turns it into an error with a place.
                    raise ValueError(f"{where}: {feature!r} is {found.kind}; {_IN_EXAMPLES}")  # noqa: TRY004

    def _check_cross(self, cross: Cross) -> None:
        if len(set(cross.of)) != len(cross.of):
            raise ValueError(f"cross {cross.name!r}: a parent occurs twice")
        for name in cross.of:
            parent = next((f for f in self.features if f.name == name), None)
            if parent is None:
                raise ValueError(f"cross {cross.name!r}: no feature is called {name!r}")
            if isinstance(parent, Numeric | Cross | RawFeature):
                # A ValueError, because pydantic turns it into an error with the feature's place.
                raise ValueError(f"cross {cross.name!r}: {name!r} is {parent.kind}; {_CROSSED}")  # noqa: TRY004
        if self.width(cross) > _MAX_CROSS_WIDTH:
            raise ValueError(f"cross {cross.name!r}: {self.width(cross)} values a row, at most {_MAX_CROSS_WIDTH}")

    @property
    def containers(self) -> frozenset[str]:
        """Top-level keys that must be objects if present, because a path leads to a key in them."""
        paths = (steps for steps in self._document_paths() if len(steps) > 1)
        return frozenset(steps[0] for steps in paths if isinstance(steps[1], str) and steps[1] != "*")

    @property
    def document_keys(self) -> frozenset[str]:
        """Top-level keys of the document that user features, context features and consent read."""
        return frozenset(steps[0] for steps in self._document_paths())

    @property
    def candidate_keys(self) -> frozenset[str]:
        """Top-level keys of a candidate that features read."""
        own = (f for f in self.features if not isinstance(f, Cross) and f.side == "candidate")
        return frozenset(parse_path(feature.path)[0] for feature in own)

    def _document_paths(self) -> Iterable[tuple[str, *tuple[str | int, ...]]]:
        for feature in self.features:
            if not isinstance(feature, Cross) and feature.side != "candidate":
                yield parse_path(feature.path)
        yield from (parse_path(path) for rule in self.denial_rules for path in rule.paths)

    @property
    def denial_rules(self) -> tuple[DenialRule, ...]:
        """The rules of the consent; any of them denies."""
        return () if self.consent is None else self.consent.denied_by

    def parents(self, cross: Cross) -> tuple[HashedFeature, ...]:
        """A cross's parents in hashing order: user, context, candidate; within a side as listed."""
        by_name = {f.name: f for f in self.features if isinstance(f, HashedFeature)}
        order = ("user", "context", "candidate")
        return tuple(sorted((by_name[name] for name in cross.of), key=lambda f: order.index(f.side)))

    def group(self, feature: AnyFeature) -> Group:
        """The group of matrices that holds the feature's columns."""
        if not isinstance(feature, Cross):
            return "candidate" if feature.side == "candidate" else "request"
        ends = {parent.side == "candidate" for parent in self.parents(feature)}
        if len(ends) == 2:
            return "pair"
        return "candidate" if ends == {True} else "request"

    def owner(self, feature: HashedFeature | Cross) -> HashedFeature | Cross:
        """The feature whose rows of the fused table `feature` has: by default itself."""
        if not isinstance(feature, Categorical | MultiValued) or feature.shares is None:
            return feature
        return next(f for f in self.features if f.name == feature.shares and isinstance(f, HashedFeature))

    def dim(self, feature: HashedFeature | Cross) -> int:
        """Dimensions of the feature's embedding."""
        return self.owner(feature).embedding_dim or self.embedding_dim

    def width(self, feature: AnyFeature) -> int:
        """Ids or values per row."""
        if isinstance(feature, RawFeature):
            return feature.width
        if isinstance(feature, Numeric):
            return 1 + feature.missing_indicator
        if isinstance(feature, Cross):
            return prod(self.width(parent) for parent in self.parents(feature))
        return feature.max_values if isinstance(feature, MultiValued) else 1

    def is_padded(self, feature: Feature) -> bool:
        """Whether ids can be padding: the feature or a parent of the cross is multi-valued."""
        some = self.parents(feature) if isinstance(feature, Cross) else (feature,)
        return any(isinstance(f, MultiValued) for f in some)

    @cached_property
    def hash(self) -> str:
        """16 hex digits. Specs with equal hashes have the same encoded form."""
        left_out = {"name", "prior", "deadline_margin_ms"}
        # Raw features and Examples have their form from the inputs that take them.
        is_plain = self.serving is None or not self.serving.examples
        if is_plain and not any(isinstance(f, RawFeature) for f in self.features):
            left_out.add("serving")
        # Without a consent, the hash is that of the versions of this project that had none.
        if self.consent is None:
            left_out.add("consent")
        content = self.model_dump(mode="json", exclude=left_out)
        for feature in content["features"]:
            for name, absent in ADDED.items():
                if feature.get(name) is absent:
                    feature.pop(name, None)
        text = json.dumps([HASHING_VERSION, content], sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    def to_json(self) -> str:
        """The spec as JSON, as a model's `feature_spec` signature carries it."""
        return self.model_dump_json(exclude_defaults=True)

    @classmethod
    def from_json(cls, text: str | bytes, source: str = "feature spec") -> "FeatureSpec":
        """Reads the output of `to_json`.

        Raises:
            SpecError: naming `source`, the feature, the field and the value.
        """
        try:
            return cls.from_mapping(json.loads(text), source)
        except (ValueError, RecursionError) as error:
            raise SpecError(f"{source}: not valid JSON: {error}") from None

    @classmethod
    def from_yaml(cls, path: Path) -> "FeatureSpec":
        """Reads a spec file and the vocabulary files that it names.

        Raises:
            SpecError: naming the file, the feature, the field and the value; also if a file cannot be read.
        """
        try:
            content = yaml.safe_load(path.read_text(encoding="utf-8"))
        except Exception as error:
            # PyYAML raises errors of many classes for wrong tags, dates and numbers.
            raise SpecError(f"{path}: cannot be read: {' '.join(str(error).split())}") from error
        reject_placeholders(content, str(path))
        return cls.from_mapping(with_vocabularies(content, path), str(path))

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
    """One line for each of the first errors, with the feature's name instead of its index."""
    errors = error.errors(include_url=False)
    # A list is also too short if all of its items are wrong; their own errors say more.
    within = {found["loc"][:length] for found in errors for length in range(1, len(found["loc"]))}
    errors = [found for found in errors if found["type"] != "too_short" or found["loc"] not in within]
    if len(errors) > _SHOWN_ERRORS:
        yield f"{source}: {len(errors)} errors, the first {_SHOWN_ERRORS}:"
    for found in errors[:_SHOWN_ERRORS]:
        where = [str(part) for part in found["loc"]]
        if where[:1] == ["features"] and len(where) > 1:
            features = content.get("features")
            index = int(where[1])
            feature = features[index] if isinstance(features, list) and index < len(features) else None
            name = feature.get("name", f"number {index + 1}") if isinstance(feature, dict) else f"number {index + 1}"
            where = [f"feature {name!r}", *where[3:]]  # where[2] is the kind
        got = found["input"]
        value = "" if isinstance(got, dict | list | tuple | BaseModel) else f" (got {got!r:.100})"
        yield f"{source}: {'.'.join(where) or 'spec'}: {found['msg'].removeprefix('Value error, ')}{value}"
