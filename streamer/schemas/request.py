"""The JSON Schemas of requests and their headers, and of the records of ads. Pure."""

from collections.abc import Iterable

from streamer.codec import DEADLINE_HEADER, REQUEST_ID_HEADER
from streamer.features import Cross, FeatureSpec
from streamer.features.kinds import Bucketised, Categorical, MultiValued, Numeric
from streamer.features.raw_kinds import Integer, RawFeature
from streamer.formats.content_type import BINARY_TYPE, CONTENT_TYPE_HEADER, JSON_TYPE
from streamer.schemas.paths import PathTree, Schema
from streamer.tracing.context import TRACEPARENT
from streamer.types import RequestPaths

DIALECT = "https://json-schema.org/draft/2020-12/schema"
_ABOVE_ZERO = r"^(0*[1-9][0-9]*(\.[0-9]+)?|0+\.0*[1-9][0-9]*)$"
"""Digits of a number above 0."""

_ID = f"Unique for each auction. It can be in the header `{REQUEST_ID_HEADER}` instead."
_DEADLINE = f"The budget in milliseconds from the record's timestamp on, instead of the header `{DEADLINE_HEADER}`."
_SCALARS = ("string", "number", "boolean")
_ANY = ("array", "boolean", "number", "object", "string")
"""Types of a value that a transform takes."""
_MAX_EXAMPLES = 10


def request_schema(max_candidates: int, spec: FeatureSpec | None = None) -> Schema:
    """A request in JSON, with the fields that `spec` reads."""
    paths = RequestPaths() if spec is None else spec.request
    document = PathTree()
    document.add(paths.request_id, ("string",), {"minLength": 1, "description": _ID})
    document.add(paths.deadline_ms, ("number",), {"exclusiveMinimum": 0, "description": _DEADLINE})
    document.add(paths.model, ("string",), {"description": "The model that scores it. Default: the first one."})
    if spec is None:
        for name in ("user", "context"):
            document.add(name, ("object",), {"description": f"Values of the {name} that the features read."})
    else:
        _add_features(document, spec, ("user", "context"))
        for path in (path for rule in spec.denial_rules for path in rule.paths):
            document.add(path, _SCALARS, {"description": "Tells whether the user denies consent."})
    document.add(paths.candidates, (), _candidates(max_candidates, paths, spec), is_required=True)
    return {
        "$schema": DIALECT,
        "title": "Request",
        "description": "A request for scores. Null counts as missing. Other keys are allowed and have no effect.",
        **document.schema(),
        "type": "object",
    }


def ad_schema(spec: FeatureSpec | None = None) -> Schema:
    """The value of a record of the topic of ads."""
    paths = RequestPaths() if spec is None else spec.request
    return {
        "$schema": DIALECT,
        "title": "Ad",
        "description": "The values of an ad, as in a candidate. Its id is the record's key. No value deletes the ad.",
        **_candidate(paths, spec, has_id=False).schema(),
        "type": "object",
    }


def request_headers_schema(other_types: Iterable[str] = ()) -> Schema:
    """The headers of a request. On the wire they are bytes; these are their texts in UTF-8.

    `other_types`: the content types that codecs of other packages read.
    """
    return {
        "$schema": DIALECT,
        "title": "Headers of a request",
        "description": "All are optional. The answer has the headers of its request, also those not named here.",
        "type": "object",
        "properties": {
            REQUEST_ID_HEADER: {
                "type": "string",
                "minLength": 1,
                "description": "The request id. With it, every record can be answered, also one that cannot be read.",
            },
            DEADLINE_HEADER: {
                "type": "string",
                "pattern": _ABOVE_ZERO,
                "description": "The budget in milliseconds. With it, a late request is answered without parsing.",
            },
            CONTENT_TYPE_HEADER: {
                "type": "string",
                "enum": [JSON_TYPE, BINARY_TYPE, *other_types],
                "default": JSON_TYPE,
                "description": "Form of the request.",
            },
            TRACEPARENT: {
                "type": "string",
                "pattern": "^00-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}$",
                "description": "The bidder's span, by W3C Trace Context: the scorer's spans are below it.",
            },
        },
        "additionalProperties": {"type": "string"},
    }


def _candidates(most: int, paths: RequestPaths, spec: FeatureSpec | None) -> Schema:
    tree = _candidate(paths, spec, has_id=True)
    rows = {"title": "Rows", "type": "array", "minItems": 1, "maxItems": most, "items": tree.schema()}
    what = "A list of values for each key, as long as that of the ad ids."
    columns = {"title": "Columns", "description": what, **tree.columns(most)}
    return {"description": "The ads to score, in rows or in columns.", "oneOf": [rows, columns]}


def _candidate(paths: RequestPaths, spec: FeatureSpec | None, *, has_id: bool) -> PathTree:
    tree = PathTree(types={"object"}, is_required=True)
    tree.add(paths.ad_id, ("string",), {"minLength": 1, "description": "The ad's id."}, is_required=has_id)
    if spec is not None:
        _add_features(tree, spec, ("candidate",))
    return tree


def _add_features(tree: PathTree, spec: FeatureSpec, sides: Iterable[str]) -> None:
    for feature in spec.features:
        if isinstance(feature, Cross) or feature.side not in sides:
            continue
        words: Schema = {"description": f"{feature.kind.replace('_', '-')} feature `{feature.name}`"}
        if isinstance(feature, Categorical) and feature.vocabulary and feature.by is None:
            words["examples"] = list(feature.vocabulary[:_MAX_EXAMPLES])
        if feature.by is not None:
            words["description"] = f"{words['description']}, by {feature.by}"
            tree.add(feature.path, _ANY, words)
        elif isinstance(feature, MultiValued) or (isinstance(feature, RawFeature) and feature.max_values is not None):
            words["items"] = {"type": [*sorted(_types(feature)), "null"]}
            tree.add(feature.path, ("array", *_types(feature)), words)
        else:
            tree.add(feature.path, _types(feature), words)


def _types(feature: object) -> Iterable[str]:
    """The JSON types of one value."""
    if isinstance(feature, Integer):
        return ("integer",)
    return ("number",) if isinstance(feature, Numeric | Bucketised) else _SCALARS
