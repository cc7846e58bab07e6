"""The file of recorded calls: scenarios of servers, calls, and placeholders in their texts."""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from sandbox.replay.public_data import data_folder

FOLDER = (data_folder() / "tfserving").absolute()
TESTDATA = FOLDER / "tensorflow_serving" / "servables" / "tensorflow" / "testdata"
BATCHING = FOLDER / "tensorflow_serving" / "batching" / "testdata"

_PATTERNS = {
    "{n}": r"\d+",
    "{debug}": r"goo\.gle/debug(?:str|only|proto) +",
}
_PLACEHOLDER = re.compile("|".join(map(re.escape, _PATTERNS)))


@dataclass(frozen=True, slots=True)
class Scenario:
    """How a server was started: its flags, the files written and the folders copied before."""

    name: str
    flags: tuple[str, ...]
    files: Mapping[str, str]
    copies: Mapping[str, str]
    ordered: bool


@dataclass(frozen=True, slots=True)
class Recording:
    scenarios: Mapping[str, Scenario]
    calls: tuple[Mapping[str, Any], ...]
    models_program: str

    def of_scenario(self, name: str) -> list[Mapping[str, Any]]:
        """Calls of one server, in the order of the file."""
        return [call for call in self.calls if call.get("server") == name]

    def lifecycles(self) -> list[Mapping[str, Any]]:
        return [call for call in self.calls if call["kind"] == "lifecycle"]


@cache
def recording() -> Recording:
    first, *calls = (json.loads(line) for line in (FOLDER / "calls.jsonl").read_bytes().splitlines())
    scenarios = {
        name: Scenario(
            name,
            tuple(server["flags"]),
            server.get("files", {}),
            server.get("copies", {}),
            server.get("ordered", False),
        )
        for name, server in first["servers"].items()
    }
    return Recording(scenarios, tuple(calls), first["models"])


@dataclass(frozen=True, slots=True)
class Places:
    """What the placeholders of one started server stand for."""

    tmp: Path
    own: Path
    ports: Mapping[str, int]

    def filled(self, text: str) -> str:
        """The text with paths and ports in place of their placeholders."""
        known = {"{testdata}": TESTDATA, "{batching}": BATCHING, "{own}": self.own, "{tmp}": self.tmp}
        for name, value in {**known, **{f"{{{name}}}": port for name, port in self.ports.items()}}.items():
            text = text.replace(name, str(value))
        return text

    def fill(self, value: Any) -> Any:
        """`filled` for each text in a JSON value."""
        if isinstance(value, str):
            return self.filled(value)
        if isinstance(value, dict):
            return {self.filled(key): self.fill(item) for key, item in value.items()}
        return [self.fill(item) for item in value] if isinstance(value, list) else value


def same(expected: Any, actual: Any) -> bool:
    """Whether a JSON value equals the recorded one; `{n}` and `{debug}` in a text match what they stand for."""
    if isinstance(expected, str) and isinstance(actual, str):
        if _PLACEHOLDER.search(expected) is None:
            return expected == actual
        pieces = _PLACEHOLDER.split(expected)
        names = [*_PLACEHOLDER.findall(expected), None]
        pattern = "".join(
            re.escape(piece) + (_PATTERNS[name] if name else "") for piece, name in zip(pieces, names, strict=True)
        )
        return re.fullmatch(pattern, actual, re.DOTALL) is not None
    if isinstance(expected, dict) and isinstance(actual, dict):
        return expected.keys() == actual.keys() and all(same(expected[key], actual[key]) for key in expected)
    if isinstance(expected, list) and isinstance(actual, list):
        return len(expected) == len(actual) and all(map(same, expected, actual))
    # NaN is written as a text in JSON of protobuf, but as a number in JSON of REST.
    return bool(expected == actual or (expected != expected and actual != actual))  # noqa: PLR0124
