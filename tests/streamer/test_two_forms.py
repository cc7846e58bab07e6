"""The compiled hot loops and their twins in Python: the same tests, the same answers."""

import os
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import orjson
import pytest

from sandbox.world.bid_requests import RequestFactory
from sandbox.world.world import World
from streamer import native
from streamer.deadline import Deadline
from streamer.features import FeatureSpec
from streamer.testing.model_servers import Loaded, VirtualServers
from streamer.testing.virtual_loop import run_virtual
from streamer.types import F32, BatchInputs, DeadLetter, Header, ModelVersion, Origin, Record
from tests.docs.worked_examples import ROOT
from tests.streamer.bad_records import BAD_RECORDS
from tests.streamer.formats.binary_requests import BINARY, by_candidates, by_columns
from tests.streamer.rollout.switching import Worker
from tests.toolchains import absent, needs, needs_native

ENCODING = ("features", "formats", "tables", "test_codec.py", "test_consent.py", "test_slices.py")
"""Tests of what has two forms. Many of them construct what they test when they are imported."""
REFERENCE, WORLD = (ROOT / "configs" / "features" / f"{name}.yaml" for name in ("reference", "world"))
TIMEOUT_S = 600.0


def test_the_tests_of_encoding_pass_in_pure_python() -> None:
    """The other tests run with the compiled module, where it is built."""
    needs_native()
    files = [str(Path(__file__).with_name(name)) for name in ENCODING]
    options = ("-q", "-p", "no:cacheprovider", "-m", "not slow and not kafka")
    environment = {**os.environ, native.SWITCH: "off"}
    command = (sys.executable, "-m", "pytest", *options, *files)
    done = subprocess.run(
        command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=TIMEOUT_S, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


class KeptInputs(VirtualServers):
    """Fake servers that keep the rows of each call."""

    def __init__(self, spec: FeatureSpec) -> None:
        super().__init__([{1: Loaded(spec)}])
        self.kept: list[BatchInputs] = []

    async def score(self, version: ModelVersion, inputs: BatchInputs, seconds: float) -> F32:
        self.kept.append(inputs)
        return await super().score(version, inputs, seconds)


def requests_of(spec: Path) -> Iterator[tuple[bytes, tuple[Header, ...]]]:
    """Requests in every form, many ads of which are known, and records that are no request."""
    world = World(seed=3, users=50, ads=400)
    for layout in ("rows", "columns"):
        factory = RequestFactory(world, candidates=200, seed=1, layout=layout)
        for _ in range(8):
            value = factory.next().value
            yield value, ()
            document = orjson.loads(value)
            if layout == "columns":
                columns = document.pop("candidates")
                texts = {key: column for key, column in columns.items() if isinstance(column[0], str)}
                numbers = {key: column for key, column in columns.items() if isinstance(column[0], float | int)}
                for write in (by_candidates, by_columns):
                    yield write(document, texts=texts, numbers=numbers), BINARY
    for value, _, _ in BAD_RECORDS:
        yield value, ()


async def outcomes(spec: Path) -> tuple[Sequence[Mapping[str, Any]], Sequence[tuple[str, str]], Sequence[BatchInputs]]:
    """Answers without their times, dead letters, and the rows of the calls."""
    letters: list[tuple[str, str]] = []

    async def dead_letter(letter: DeadLetter) -> None:
        letters.append((letter.stage, letter.reason))

    servers = KeptInputs(FeatureSpec.from_yaml(spec))
    worker = Worker(servers, cache=False)
    worker.dead_letter = dead_letter  # type: ignore[method-assign]
    await worker.start()
    for offset, (value, headers) in enumerate(requests_of(spec)):
        now = worker.loop.time()
        origin, deadline = Origin("requests", 0, offset), Deadline.after(now, 60_000.0)
        await worker.pipeline.answer(Record(b"u", value, headers, origin, 0, deadline, now))
    answers = [{k: v for k, v in answer.items() if k != "ms"} for (answer,) in worker.answers.values()]
    return answers, letters, servers.kept


@pytest.mark.parametrize("spec", [REFERENCE, WORLD], ids=["reference", "world"])
def test_both_forms_give_the_same_answers(spec: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    needs_native()
    found = []
    for module in (native.module, None):
        monkeypatch.setattr(native, "module", module)

        async def run() -> None:
            found.append(await outcomes(spec))

        run_virtual(run)
    (answers, letters, rows), (expected, expected_letters, expected_rows) = found
    assert len([answer for answer in answers if answer["status"] == "ok"]) == 32
    assert answers == expected
    assert letters == expected_letters
    assert len(rows) == len(expected_rows) > 32
    for ours, theirs in zip(rows, expected_rows, strict=True):
        for field in msgspec.structs.fields(ours):
            np.testing.assert_array_equal(getattr(ours, field.name), getattr(theirs, field.name), field.name)


def cargo(command: str) -> subprocess.CompletedProcess[str]:
    """Runs a command of cargo in `native/`."""
    words = ("cargo", command, "--quiet", "--locked")
    return subprocess.run(words, cwd=ROOT / "native", capture_output=True, text=True, timeout=TIMEOUT_S, check=False)


def test_the_tests_in_rust() -> None:
    needs("cargo")
    if (fetched := cargo("fetch")).returncode != 0:
        absent(f"no crates: {fetched.stderr}")
    done = cargo("test")
    assert done.returncode == 0, done.stdout + done.stderr
