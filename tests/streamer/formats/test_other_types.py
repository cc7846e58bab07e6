"""Requests of other content types, by codecs of other packages."""

from pathlib import Path

import orjson
import pytest

from streamer.codec import Codec
from streamer.errors import ConfigError
from streamer.extensions import request_readers
from streamer.settings.loading import load_settings
from streamer.settings.sections import CodecSettings
from streamer.types import BadRecord, BidRequest, Header
from tests.streamer.extension_package import installed
from tests.streamer.specs import small_spec

CODE = """
class Lines:
    content_types = frozenset({"text/csv"})
    def read(self, value):
        if value == b"none":
            return None
        if value == b"no text":
            return {}["a key"]
        request_id, *ads = value.decode().split(",")
        if not ads:
            raise ValueError("expected an id and ads,\\nseparated by commas")
        import json
        candidates = [{"ad_id": ad} for ad in ads]
        return json.dumps({"request_id": request_id, "candidates": candidates}, separators=(",", ":")).encode()
class Wrong(Lines):
    content_types = frozenset({"Text/CSV"})
lines, again, wrong = Lines(), Lines(), Wrong()
"""
ENTRIES = {"ctr_streamer.codecs": {"lines": "lines", "again": "again", "wrong": "wrong"}}
CSV: list[Header] = [("content-type", b"Text/CSV; header=absent")]


def test_a_request_is_read_and_a_bad_one_has_the_reason_of_its_codec(tmp_path: Path) -> None:
    spec = small_spec()
    with installed(tmp_path, CODE, ENTRIES):
        codec = Codec(CodecSettings(formats=("lines",)), spec.request, spec.document_keys, spec.containers)
        request = codec.decode(b"r1,a,b", CSV)
        assert isinstance(request, BidRequest), request
        assert (request.request_id, list(map(bytes, request.rows or ()))) == (
            "r1",
            [b'{"ad_id":"a"}', b'{"ad_id":"b"}'],
        )
        reasons = {
            b"r1": "record: text/csv: expected an id and ads, separated by commas",
            b"no text": "record: text/csv: KeyError('a key')",
            b"none": "record: text/csv: its codec returned NoneType, not bytes",
            b",a": "request_id: expected a non-empty string, got ''",
        }
        for value, reason in reasons.items():
            assert codec.decode(value, CSV) == BadRecord(None, reason)
            assert codec.decode(value, [*CSV, ("request_id", b"h1")]) == BadRecord("h1", reason)
        assert codec.decode(b"r1,a", [("content-type", b"text/tsv")]) == BadRecord(
            None, "content-type: expected application/json, application/x-protobuf or text/csv, got 'text/tsv'"
        )
        document = orjson.dumps({"request_id": "r2", "candidates": [{"ad_id": "a"}]})
        assert isinstance(codec.decode(document, ()), BidRequest)


@pytest.mark.parametrize(
    ("names", "reason"),
    [
        (("lines", "again"), "'again': another codec in the list reads text/csv too"),
        (("wrong",), "'wrong': 'Text/CSV' is no media type in lower case"),
        (("other",), "'other' is not installed; installed: again, lines, wrong"),
    ],
)
def test_a_codec_that_cannot_be_used_is_an_error_of_the_settings(
    tmp_path: Path, names: tuple[str, ...], reason: str
) -> None:
    file = tmp_path / "settings.yaml"
    file.write_bytes(orjson.dumps({"codec": {"formats": names}}))
    with installed(tmp_path, CODE, ENTRIES):
        with pytest.raises(ConfigError, match=reason):
            request_readers(names)
        with pytest.raises(ConfigError, match=f"codec.formats: .*{reason}"):
            load_settings(file)
