"""Clients of programs on this machine never follow a proxy variable."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
CLIENTS = re.compile(r"urllib\.request|trust_env=True|(?:in)?secure_channel\((?!.*DIRECT)")
# The scorer decides by the address: tests/streamer/serving/test_proxies.py.
EXEMPT = {Path(__file__), ROOT / "streamer/serving/channel.py"}


def test_no_client_asks_a_proxy() -> None:
    """`urllib` reads the proxy variables, and so does gRPC without `DIRECT`; `http.client` and aiohttp do not."""
    programs = [
        path for folder in ("streamer", "sandbox", "benchmarks", "tests") for path in (ROOT / folder).rglob("*.py")
    ]
    found = [
        f"{path.relative_to(ROOT)}:{number}: {line.strip()}"
        for path in programs
        if path not in EXEMPT
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1)
        if CLIENTS.search(line)
    ]
    assert found == []
