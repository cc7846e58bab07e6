"""The memory of a scorer under hostile input, above an idle one that has scored requests."""

from collections.abc import Callable, Iterator
from pathlib import Path

import orjson
import psutil
import pytest

from tests.end_to_end.conftest import System, request

pytestmark = [pytest.mark.kafka, pytest.mark.tensorflow, pytest.mark.slow]

_BOUND = 200 * 2**20
_LARGE = 900_000


def _with(name: str, /, **changes: object) -> bytes:
    return orjson.dumps({**orjson.loads(request(name)), **changes})


def _large_candidates(i: int) -> bytes:
    return _with(f"r{i}", candidates=[{"ad_id": f"a{i}", "size": f"{i}-" + "x" * _LARGE}])


def _large_ad_ids(i: int) -> bytes:
    # One character beyond the basic plane, and Python needs four bytes for each character.
    return _with(f"r{i}", candidates=[{"ad_id": f"{i}-\U0001f600" + "x" * _LARGE}])


def _many_candidates(i: int) -> bytes:
    return _with(f"r{i}", candidates=[{"ad_id": f"{i}-{k}", "size": f"{i}.{k}"} for k in range(4096)])


def _many_texts(i: int) -> bytes:
    return _with(f"r{i}", user={"id": f"u{i}", "tags": [f"{i}-{k}-{'t' * 80}" for k in range(8_000)]})


def _many_lists(i: int) -> bytes:
    return request(f"r{i}")[:-1] + b',"context":{"x":[' + b"[]," * 280_000 + b"[]]}}"


def _columns(i: int) -> bytes:
    return _with(f"r{i}", candidates={"ad_id": [f"{i}-{k}" for k in range(4096)], "size": [[[]] * 20] * 4096})


def _damaged(i: int) -> bytes:
    return _many_lists(i)[:-1] + b",}"


def _large_ids(i: int) -> bytes:
    return _with(f"{i}-" + "r" * _LARGE)


@pytest.mark.parametrize(
    ("records", "n"),
    [
        (_large_candidates, 600),
        (_large_ad_ids, 150),
        (_many_candidates, 150),
        (_many_texts, 150),
        (_many_lists, 40),
        (_columns, 100),
        (_damaged, 40),
        (_large_ids, 150),
    ],
)
def test_hostile_input_adds_at_most_200_mb(system: System, records: Callable[[int], bytes], n: int) -> None:
    ordinary = [request(f"w{i}", [f"ad-{i}-{k}" for k in range(100)]) for i in range(200)]
    with system.scorer(feature_log__share=1.0) as scorer:
        system.send(ordinary)
        assert len(system.read(system.scores, len(ordinary))) == len(ordinary)
        idle = _resident(scorer.pid)
        for at in range(0, n, 50):
            system.send([records(i) for i in range(at, min(at + 50, n))])
        found = system.read(system.scores, len(ordinary) + n)
        assert len(found) == len(ordinary) + n
        peak = _resident(scorer.pid, "VmHWM")
        assert scorer.stop() == 0
    assert peak - idle <= _BOUND, f"{(peak - idle) >> 20} MiB above {idle >> 20}"


def _resident(pid: int, field: str = "VmRSS") -> int:
    """The resident memory, or its highest value so far, of the scorer's processes, in bytes."""
    return sum(_kib(process.pid, field) for process in _processes(pid)) * 1024


def _processes(pid: int) -> Iterator[psutil.Process]:
    main = psutil.Process(pid)
    yield main
    yield from main.children(recursive=True)


def _kib(pid: int, field: str) -> int:
    lines = Path(f"/proc/{pid}/status").read_text(encoding="utf-8").splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(f"{field}:"))
