"""`streamer` with a fault: a request id that begins with "kills" ends the process.

`python -m tests.end_to_end.fragile_scorer run` has the options of `streamer run`.
"""

import os
from collections.abc import Sequence

from streamer.codec import Codec
from streamer.commands import main
from streamer.types import BadRecord, BidRequest, Header

STATUS = 70
_decode = Codec.decode


def _fragile(self: Codec, value: bytes | None, headers: Sequence[Header]) -> BidRequest | BadRecord:
    if value is not None and b'"request_id":"kills' in value:
        os._exit(STATUS)
    return _decode(self, value, headers)


if __name__ == "__main__":
    Codec.decode = _fragile  # type: ignore[method-assign]
    main()
