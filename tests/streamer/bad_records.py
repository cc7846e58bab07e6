"""Records that cannot be scored, for every way on which a request arrives."""

from typing import Final

import orjson


def body(**changes: object) -> bytes:
    """A valid request with these changes."""
    return orjson.dumps({"request_id": "r1", "user": {"id": 1}, "candidates": [{"ad_id": "a"}], **changes})


DEEP = b"[" * 100_000 + b"]" * 100_000
BAD_RECORDS: Final[list[tuple[bytes, str | None, str]]] = [
    (b"no json", None, "record: not valid JSON"),
    (b'{"request_id":"r1",', "r1", "record: not valid JSON"),
    (b'{"request_id":"r1"} {}', "r1", "record: not valid JSON"),
    (b'{"request_id":"r1"} \0', "r1", "record: not valid JSON"),
    (b'{"request_id":"r1"}{"request_id":"r2"}', "r1", "record: not valid JSON"),
    ('{"request_id":"r1","candidates":[{"ad_id":"a"}]}'.encode("utf-16"), "r1", "expected UTF-8, got UTF-16"),
    ('{"request_id":"r1","candidates":[{"ad_id":"a"}]}'.encode("utf-16-le"), "r1", "got UTF-16-LE"),
    ('{"request_id":"r1","candidates":[{"ad_id":"a"}]'.encode("utf-32"), "r1", "expected UTF-8, got UTF-32"),
    (b"\xfe\xff\xd8", None, "expected UTF-8, got UTF-16"),
    (b"\xef\xbb\xbf", None, "record: empty"),
    (b"\xef\xbb\xbf[]", None, "record: expected object, got array"),
    (b"[1, 2]", None, "record: expected object, got array"),
    (b"3", None, "record: expected object, got int"),
    (b'"text"', None, "record: expected object, got str"),
    (b"null", None, "record: expected object, got null"),
    (body(user=3), "r1", "user: expected object | null, got int"),
    (body(user=[1]), "r1", "user: expected object | null, got array"),
    (body(context="x"), "r1", "context: expected object | null, got str"),
    (body(candidates=3), "r1", "candidates: expected object | array | null, got int"),
    (body(candidates="a"), "r1", "candidates: expected object | array | null, got str"),
    (body(candidates=None), "r1", "candidates: expected a list of objects or columns, got nothing"),
    (b'{"request_id":"r1"}', "r1", "candidates: expected a list of objects or columns, got nothing"),
    (body(candidates=[]), "r1", "candidates: empty"),
    (body(candidates={"ad_id": []}), "r1", "candidates: empty"),
    (body(candidates={}), "r1", "candidates.ad_id: expected a list of ad ids, got nothing"),
    (body(candidates={"ad_id": "a"}), "r1", "candidates.ad_id: expected a list of ad ids, got 'a'"),
    (body(candidates=[{"ad_id": "a"}] * 10_000), "r1", "candidates: 10000 of them, more than codec.max_candidates"),
    (body(candidates={"ad_id": ["a"] * 4097}), "r1", "candidates: 4097 of them, more than codec.max_candidates"),
    (body(request_id=""), None, "request_id: expected a non-empty string, got ''"),
    (body(request_id=7), None, "request_id: expected a non-empty string, got 7"),
    (body(request_id={}), None, "request_id: expected a non-empty string, got {}"),
    (body(request_id=["r1"]), None, "request_id: expected a non-empty string, got ['r1']"),
    (body(model=3), "r1", "model: expected a string, got 3"),
    (body(deadline_ms="soon"), "r1", "deadline_ms: expected milliseconds above 0, got 'soon'"),
    (body(deadline_ms=0), "r1", "deadline_ms: expected milliseconds above 0, got 0"),
    (body(deadline_ms=-5), "r1", "deadline_ms: expected milliseconds above 0, got -5"),
    (body(deadline_ms=True), "r1", "deadline_ms: expected milliseconds above 0, got True"),
    (body(deadline_ms=[]), "r1", "deadline_ms: expected milliseconds above 0, got []"),
    (body(deadline_ms="inf"), "r1", "deadline_ms: expected milliseconds above 0, got 'inf'"),
    (b'{"request_id":"r1","user":{"age":NaN},"candidates":[{"ad_id":"a"}]}', "r1", "record: not valid JSON"),
    (b'{"request_id":"r1","candidates":[{"ad_id":"a","bid":NaN}]}', "r1", "record: not valid JSON"),
    (b'{"request_id":"r1","user":{"age":Infinity},"candidates":[]}', "r1", "record: not valid JSON"),
    (b'{"request_id":"r1","user":{"age":1e999},"candidates":[]}', "r1", "user[...]: number out of range"),
    (b'{"request_id":"r1","user":{"id":"\\ud800"},"candidates":[]}', "r1", "no low surrogate"),
    (b'{"request_id":"\\ud800","candidates":[{"ad_id":"a"}]}', None, "no low surrogate"),
    (b'{"request_id":"r1","user":{"id":"\xff"},"candidates":[]}', "r1", "record: not valid JSON"),
    (b'{"request_id":"r\xff","candidates":[{"ad_id":"a"}]}', None, "record: not valid JSON"),
    (b'{"request_id":"r1","candidates":' + DEEP + b"}", "r1", "record: nested too deeply"),
    (b'{"request_id":"r1","user":{"id":' + DEEP + b"}}", "r1", "record: nested too deeply"),
    (b'{"unknown":' + DEEP + b',"request_id":"r1"}', None, "record: nested too deeply"),
    (b'{"request_id":"r1","x":"' + b"x" * 5_000_000 + b'"}', "r1", "record: 5000026 bytes, more than"),
    (b'{"x":"' + b"x" * 5_000_000 + b'","request_id":"r1"}', None, "record: 5000026 bytes, more than"),
]
"""Value, readable request id, and a part of the reason, with the default settings and the small spec."""


def shown(value: object) -> str | None:
    """The name of a case."""
    return repr(value)[:60] if isinstance(value, bytes) else None
