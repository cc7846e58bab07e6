"""Raw OpenRTB and AdX bid requests with candidates, which a bidder adds from its campaigns.

A replay sends them much faster than the exchanges did, so their `tmax` is renamed and gives no deadline.
"""

from pathlib import Path

import orjson

_SIZES = ((300, 250), (320, 50), (728, 90), (160, 600), (970, 250))


def read_requests(paths: tuple[Path, ...], candidates: int = 20) -> list[bytes]:
    """The lines of all files without `tmax` and with added candidates, otherwise unchanged."""
    attached = orjson.dumps([_ad(i) for i in range(candidates)])
    lines = (line.replace(b'"tmax"', b'"recorded_tmax"') for path in paths for line in path.read_bytes().splitlines())
    return [attach(line, attached) for line in lines if line.strip()]


def attach(request: bytes, candidates: bytes) -> bytes:
    """Inserts `candidates` before the closing brace; a line that is no object stays unchanged."""
    body = request.rstrip()
    if not body.endswith(b"}"):
        return request
    inside = body[:-1].rstrip()
    comma = b"" if inside.endswith(b"{") else b","
    return b"".join((inside, comma, b'"candidates":', candidates, b"}"))


def _ad(i: int) -> dict[str, object]:
    width, height = _SIZES[i % len(_SIZES)]
    return {
        "ad_id": f"ad-{i}",
        "campaign": f"campaign-{i // 2}",
        "advertiser": f"advertiser-{i // 4}",
        "cat": [f"IAB{1 + i % 24}", f"IAB{1 + i % 24}-{1 + i % 5}"],
        "w": width,
        "h": height,
        "price": round(0.2 + 0.35 * (i % 11), 2),
    }
