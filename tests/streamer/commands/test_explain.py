"""`streamer explain` shows the values that the encoder used."""

import io

import pytest
from rich.console import Console

from streamer.codec import Codec
from streamer.commands.explain import feature_table
from streamer.features import Encoder, FeatureSpec
from streamer.settings.sections import CodecSettings
from streamer.types import BidRequest
from tests.streamer.specs import SMALL


def explained(document: bytes, **changes: object) -> dict[str, list[str]]:
    """The cells of each feature's row."""
    spec = FeatureSpec.from_mapping({**SMALL, **changes})
    request = Codec(CodecSettings(), spec.request, spec.document_keys, spec.containers).decode(document, ())
    assert isinstance(request, BidRequest), request
    encoder = Encoder(spec)
    console = Console(file=io.StringIO(), width=300)
    console.print(feature_table(encoder.layout, request, encoder.encode(request)))
    assert isinstance(console.file, io.StringIO)
    lines = [[cell for cell in line.split("  ") if cell.strip()] for line in console.file.getvalue().splitlines()]
    return {cells[0].strip(): [cell.strip() for cell in cells[1:]] for cells in lines}


@pytest.mark.parametrize(
    "candidates",
    [
        '[{"ad_id":"a","bid":"2.5","tags":"t","campaign":7.0}]',
        '{"ad_id":["a"],"bid":["2.5"],"tags":["t"],"campaign":[7.0]}',
    ],
)
def test_the_table_shows_each_value_and_what_is_missing(candidates: str) -> None:
    user = '{"id":[18],"age":"inf","likes":["x",null],"sex":["f","m"]}'
    document = f'{{"request_id":"r","user":{user},"context":null,"candidates":{candidates}}}'
    rows = explained(document.encode())
    assert rows["user"][:2] == ["user or context", "[18]"]
    assert rows["age"][1] == '"inf" (missing)'
    assert rows["sex"][1] == '["f", "m"] (missing)'
    assert rows["likes"][1] == '["x", null]'
    assert rows["hour"][1] == "(missing)"
    assert rows["bid"] == ["candidate 0", '"2.5"', "3.0000"]
    assert rows["tags"][1] == '"t"'
    assert rows["campaign"][1] == "7.0"
    assert rows["size"][1] == "(missing)"


def test_the_table_shows_the_number_that_a_foreign_model_gets() -> None:
    serving = {"output": "ctr", "inputs": {"numbers": ["pace", "bid"]}}
    document = b'{"request_id":"r","context":{"pace":"9007199254740992"},"candidates":[{"ad_id":"a","bid":18}]}'
    rows = explained(document, serving=serving)
    assert rows["bid"][2] == "18"
    assert rows["pace"][2] == "9007199254740992"


def test_the_table_shows_no_value_of_a_user_without_consent() -> None:
    document = b'{"request_id":"r","user":{"id":"u1","lmt":1},"context":{"hour":3},"candidates":[{"ad_id":"a"}]}'
    rows = explained(document, consent={"denied_by": [{"path": "user.lmt", "values": [1]}]})
    assert rows["user"][1] == "(missing)"
    assert rows["hour"][1] == "3"
