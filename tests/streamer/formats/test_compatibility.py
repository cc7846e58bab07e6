"""Schemas of other programs are compared with the own one by the fields of both."""

import pytest

from streamer.formats import ctr_pb2
from streamer.formats.compatibility import ANSWER, incompatible, incompatible_request
from streamer.formats.proto_schema import Field, own_schema, read_schema
from tests.docs.worked_examples import ROOT

TEXT = (ROOT / "streamer/formats/ctr.proto").read_text(encoding="utf-8")


def test_the_text_and_the_descriptor_are_one_schema() -> None:
    found, own = read_schema(TEXT), own_schema()
    assert list(found.messages) == list(own.messages) == list(ctr_pb2.DESCRIPTOR.message_types_by_name)
    for schema in (found, own):
        assert incompatible_request(schema) is incompatible(ANSWER, schema) is None
    assert own.place(ANSWER) == [4]


OLDER = """
syntax = "proto3"; /* { */ package x.y; import "a/b.proto"; // a comment }
option java_package = "a;b"; option (my.option) = { name: "}" };
message BidRequest {
  reserved 9, 12 to 15; reserved "old";
  oneof one { bytes document = 1 [json_name = "a;b", (x) = {y: 1}]; string other = 20; }
  repeated .x.y.Outer.Column columns = 6; map<string, Outer> more = 30;
  optional Outer.Kind kind = 31; enum Inside { A = 0; } extensions 100 to 199;
}
message Outer { message Column { string path = 1; repeated other.Texts lists = 4; } enum Kind { UNKNOWN = 0; } }
service Scorer { rpc Score (BidRequest) returns (Outer) { option deadline = 3; } }
"""


def test_an_older_schema_with_other_parts_is_compatible() -> None:
    schema = read_schema(OLDER)
    assert incompatible_request(schema) is None
    assert schema.messages["BidRequest"][1] == Field("document", "bytes", is_repeated=False)
    assert schema.messages["BidRequest"][30] == Field("more", "map", is_repeated=True)
    assert schema.enums == {"Outer.Kind", "BidRequest.Inside"}
    assert list(schema.messages) == ["BidRequest", "Outer", "Outer.Column"]


@pytest.mark.parametrize(
    ("old", "new", "reason"),
    [
        (
            "repeated bytes ca",
            "repeated string ca",
            "BidRequest.candidates: expected repeated bytes, got repeated string",
        ),
        ("repeated bytes ca", "bytes ca", "BidRequest.candidates: expected repeated bytes, got bytes"),
        ("number_paths = 3", "number_paths = 9", "BidRequest.number_paths: expected number 3, got 9"),
        ("bytes document", "bytes body", "BidRequest.document: expected this name for number 1, got 'body'"),
        ("double numbers = 2", "float numbers = 2", "Candidate.numbers: expected repeated double, got repeated float"),
        ("string values", "bytes values", "Texts.values: expected repeated string, got repeated bytes"),
        ("repeated Column", "map<string, Column>", "BidRequest.columns: expected repeated message, got repeated map"),
        ("message BidR", "message Other { }\nmessage BidR", "BidRequest: not the first message of the schema"),
        ("message BidRequest {", "message Request {", "BidRequest: the schema has no such message"),
    ],
)
def test_the_reason_names_the_field(old: str, new: str, reason: str) -> None:
    assert old in TEXT
    assert incompatible_request(read_schema(TEXT.replace(old, new, 1))) == reason


def test_answers_are_compared_too() -> None:
    changed = TEXT.replace("repeated Source source = 7", "repeated string source = 7")
    assert incompatible(ANSWER, read_schema(changed)) == "Scores.source: expected repeated enum, got repeated string"


@pytest.mark.parametrize(
    "text",
    ["", "{}", '{"type": "record"}', "message A {", "message A { string b = x; }", "message A { string b", "message",
     "message A " + "{ message A " * 100, "x" * (2**20 + 1)],
)  # fmt: skip
def test_a_text_that_is_no_schema_is_a_reason(text: str) -> None:
    with pytest.raises(ValueError, match="schema"):
        read_schema(text)
