"""One line of the feature log: the encoded rows of a request, exactly as they were scored."""

import binascii
from base64 import b64decode, b64encode
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import orjson

from streamer.features.layout import GROUPS, Layout
from streamer.features.spec import Group
from streamer.types import F32, I32, BadRecord, EncodedRequest, ModelVersion

OF_ANOTHER_SPEC = "logged by another feature spec"
_MATRICES = ("request_ids", "request_floats", "candidate_ids", "candidate_floats", "pair_ids")


@dataclass(frozen=True, slots=True)
class ServedRows:
    """The encoded rows of one request of n candidates, as the scorer used them.

    Attributes:
        spec_hash: `FeatureSpec.hash` of the encoder.
        ids, floats: by group int32 [n, layout.id_width(group)] and float32 [n, layout.float_width(group)]; 1 row
            instead of n for the group `request`.
    """

    request_id: str
    spec_hash: str
    ad_ids: Sequence[str]
    ids: Mapping[Group, I32]
    floats: Mapping[Group, F32]

    def flat_row(self, at: int) -> tuple[I32, F32]:
        """One candidate's row, as in `Encoder.flat_rows`: int32 [row_ids], float32 [row_floats]."""
        rows = [(self.ids[group], self.floats[group], 0 if group == "request" else at) for group in GROUPS]
        ids, floats = [ids[i] for ids, _, i in rows], [floats[i] for _, floats, i in rows if floats.shape[1]]
        return np.concatenate(ids), np.concatenate([*floats, np.empty(0, np.float32)])


def encode_served(request_id: str, spec_hash: str, version: ModelVersion, encoded: EncodedRequest) -> bytes:
    """Writes a line: JSON with the bytes of each matrix in base64, little-endian and row by row."""
    position = encoded.position
    ads = {} if position is None else {"ads": {"topic": position.topic, "positions": position.offsets}}
    return orjson.dumps(
        {
            "request_id": request_id,
            "spec_hash": spec_hash,
            "model": {"name": version.name, "version": version.version},
            **ads,
            "ad_id": encoded.ad_ids,
            **{name: b64encode(getattr(encoded, name).tobytes()).decode() for name in _MATRICES},
        }
    )


def decode_served(line: str | bytes, layout: Layout) -> ServedRows | BadRecord:
    """Reads a line. A line of another spec, or one that cannot be parsed, becomes a `BadRecord`."""
    try:
        content = orjson.loads(line)
        request_id, spec_hash, ad_ids = content["request_id"], content["spec_hash"], content["ad_id"]
        if spec_hash != layout.spec.hash:
            return BadRecord(request_id, OF_ANOTHER_SPEC)
        ids: dict[Group, I32] = {}
        floats: dict[Group, F32] = {}
        for group in GROUPS:
            n = 1 if group == "request" else len(ad_ids)
            width = layout.float_width(group)
            id_bytes = b64decode(content[f"{group}_ids"], validate=True)
            float_bytes = b64decode(content[f"{group}_floats"], validate=True) if width else b""
            ids[group] = np.frombuffer(id_bytes, "<i4").reshape(n, layout.id_width(group))
            floats[group] = np.frombuffer(float_bytes, "<f4").reshape(n, width)
    except (ValueError, KeyError, TypeError, binascii.Error):
        return BadRecord(None, "line of the feature log that cannot be read")
    return ServedRows(request_id, spec_hash, ad_ids, ids, floats)
