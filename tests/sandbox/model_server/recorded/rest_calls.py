"""Replays one recorded REST call."""

import base64
import gzip
import hashlib
import json
import re
from collections.abc import Mapping
from http.client import HTTPConnection
from typing import Any

from tests.sandbox.model_server.recorded.exceptions import COMPARED_METRICS
from tests.sandbox.model_server.recorded.recording import Places, same

_TIMEOUT_S = 60.0
_UNRECORDED = {"date", "content-length", "content-type", "connection", "content-encoding", "transfer-encoding"}


def outcome(call: Mapping[str, Any], port: int, at: Places) -> dict[str, Any]:
    """Status, content type, further headers and body (bytes, decompressed)."""
    connection = HTTPConnection("127.0.0.1", port, timeout=_TIMEOUT_S)
    try:
        connection.putrequest(call["http_method"], at.filled(call["path"]), skip_accept_encoding=True)
        body = _body(call, at)
        for name, value in call.get("headers", {}).items():
            connection.putheader(name, value)
        if body is not None:
            connection.putheader("Content-Length", str(len(body)))
        connection.endheaders(body)
        response = connection.getresponse()
        found = response.read()
    finally:
        connection.close()
    if response.getheader("Content-Encoding") == "gzip":
        found = gzip.decompress(found)
    headers = {name.lower(): value for name, value in response.getheaders() if name.lower() not in _UNRECORDED}
    return {
        "status": response.status,
        "content_type": response.getheader("Content-Type"),
        "response_headers": headers,
        "body": found,
    }


def difference(call: Mapping[str, Any], actual: Mapping[str, Any], at: Places) -> str | None:
    """What differs from the recorded answer; None if nothing does."""
    for name, nothing in (("status", None), ("content_type", None), ("response_headers", {})):
        if call.get(name, nothing) != actual[name]:
            return (
                f"{name}: expected {call.get(name, nothing)!r}, actual {actual[name]!r}; body {actual['body'][:500]!r}"
            )
    body: bytes = actual["body"]
    if "response_sha256" in call:
        text = body.decode()
        if len(body) == call["response_length"] and hashlib.sha256(body).hexdigest() == call["response_sha256"]:
            return None
        return f"body: expected {call['response_length']} bytes, actual {len(body)}: {text[:200]!r}"
    if call.get("pick") == "metrics":
        return _metrics_difference(call, body.decode())
    # Latin-1 keeps each byte of a body that is not UTF-8.
    encoding = "latin-1" if "response_base64" in call else "utf-8"
    expected = (
        base64.b64decode(call["response_base64"]).decode(encoding) if "response_base64" in call else call["response"]
    )
    expected, text = at.filled(expected), body.decode(encoding)
    if call.get("key_order_varies"):
        holds = _is_json(text) and same(json.loads(expected), json.loads(text))
    else:
        holds = same(expected, text)
    return None if holds else f"body: expected {expected!r}\n  actual         {text!r}"


def _body(call: Mapping[str, Any], at: Places) -> bytes | None:
    if "body_base64" in call:
        return base64.b64decode(call["body_base64"])
    if fill := call.get("body_fill"):
        items = ",".join([fill["item"]] * fill["count"])
        return f"{fill['prefix']}{items}{fill['suffix']}".encode()
    if "body" not in call:
        return None
    body = at.filled(call["body"]).encode()
    return gzip.compress(body) if call.get("body_encoding") == "gzip" else body


def _is_json(text: str) -> bool:
    try:
        json.loads(text)
    except ValueError:
        return False
    return True


def _metrics_difference(call: Mapping[str, Any], text: str) -> str | None:
    """Compares names, types, labels and the exact lines of two metrics."""
    types = {f"{name} {kind}" for name, kind in re.findall(r"^# TYPE (\S+) (\S+)$", text, re.MULTILINE)}
    if missing := {name for name in call["metrics"] if name.startswith(COMPARED_METRICS)} - types:
        return f"metrics that are missing: {sorted(missing)}"
    for name, labels in call["labels"].items():
        found = re.search(rf"^{re.escape(name)}(?:_count)?{{(.*)}} ", text, re.MULTILINE)
        if name.startswith(COMPARED_METRICS) and set(labels) != set(re.findall(r'(\w+)="', found[1] if found else "")):
            return f"{name}: expected labels {labels}, actual {found and found[0]}"
    lines = set(text.splitlines())
    if lacking := [line for line in call["metric_lines"] if line not in lines]:
        return f"lines that are missing: {lacking}"
    return None
