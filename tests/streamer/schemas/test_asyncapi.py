"""The AsyncAPI document is valid, and says what the settings and the code say."""

import json
import subprocess
import tarfile
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft7Validator

from streamer.kafka.topics import required_topics
from streamer.schemas.catalogue import contract
from streamer.settings import Settings
from tests.streamer.schemas.test_files import FOLDER
from tests.toolchains import needs

DOCUMENT: Any = contract("asyncapi", Settings())
_SPECS = "@asyncapi/specs@6.11.1"


def test_the_topics_are_those_that_are_created() -> None:
    settings = Settings.model_validate({"ads": {"topic": "ads"}})
    required = required_topics(settings)
    bindings = {channel["address"]: channel["bindings"]["kafka"] for channel in DOCUMENT["channels"].values()}
    assert bindings.keys() == {*required, "impressions", "clicks"}
    for topic, config in required.items():
        binding = bindings[topic]
        assert (binding["topic"], binding["partitions"]) == (topic, settings.topics.partitions)
        described = binding["topicConfiguration"]
        texts = {key: value[0] if isinstance(value, list) else str(value) for key, value in described.items()}
        assert texts.items() <= config.items()


def test_the_addresses_are_those_of_the_settings() -> None:
    settings = Settings.model_validate(
        {
            "kafka": {"bootstrap_servers": "a:1, b:2", "security_protocol": "SSL", "group_id": "g"},
            "source": {"topic": "in"},
            "sink": {"topic": "out", "dead_letter_topic": "dead"},
            "ads": {"topic": "catalogue"},
        }
    )
    found: Any = contract("asyncapi", settings)
    channels = {name: channel["address"] for name, channel in found["channels"].items()}
    assert channels == {
        "requests": "in",
        "answers": "out",
        "deadLetters": "dead",
        "ads": "catalogue",
        "impressions": "impressions",
        "clicks": "clicks",
    }
    assert [server["host"] for server in found["servers"].values()] == ["a:1", "b:2"]
    assert {server["protocol"] for server in found["servers"].values()} == {"kafka-secure"}
    assert found["operations"]["score"]["bindings"]["kafka"]["groupId"]["enum"] == ["g"]


def test_each_schema_that_it_names_is_a_file() -> None:
    named = {
        part["$ref"].removeprefix("./")
        for message in DOCUMENT["components"]["messages"].values()
        for part in (message["payload"], message.get("headers", {}))
        if "$ref" in part
    }
    assert named == {path.name for path in FOLDER.glob("*.json")} - {"asyncapi.json"}


@pytest.mark.slow
def test_it_is_valid(tmp_path: Path) -> None:
    """By the JSON Schema of AsyncAPI 3.0.0, as a document that refers to the schemas and with them inside."""
    needs("npm")
    subprocess.run(["npm", "pack", "--silent", _SPECS], cwd=tmp_path, check=True, timeout=300)
    (packed,) = tmp_path.glob("*.tgz")
    with tarfile.open(packed) as archive:
        archive.extract("package/schemas/3.0.0.json", tmp_path, filter="data")
    validator = Draft7Validator(json.loads((tmp_path / "package/schemas/3.0.0.json").read_text(encoding="utf-8")))
    assert [f"{error.json_path}: {error.message:.300}" for error in validator.iter_errors(DOCUMENT)] == []
    wrong = {**DOCUMENT, "channels": {"requests": {"topic": "bid-requests"}}}
    assert not validator.is_valid(wrong)
    whole = json.loads(json.dumps(DOCUMENT))
    for message in whole["components"]["messages"].values():
        for part in ("payload", "headers"):
            if name := message.get(part, {}).get("$ref"):
                message[part] = json.loads((FOLDER / name).read_text(encoding="utf-8"))
    assert [f"{error.json_path}: {error.message:.300}" for error in validator.iter_errors(whole)] == []
