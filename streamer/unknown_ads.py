"""What happens to a request with ads that the table does not contain. Pure."""

from collections.abc import Callable

import numpy as np

from streamer.errors import InvalidRequestError
from streamer.settings.sections import UnknownAds
from streamer.types import EncodedRequest, RequestPaths


def check(encoded: EncodedRequest, setting: UnknownAds, paths: RequestPaths, count: Callable[[int], None]) -> None:
    """Counts the unknown ads of a request.

    Raises:
        InvalidRequestError: by the setting `invalid`, for the first one.
    """
    if encoded.unknown is None or encoded.position is None:
        return
    count(int(np.count_nonzero(encoded.unknown)))
    if setting == "invalid":
        i = int(encoded.unknown.argmax())
        reason = f"{encoded.ad_ids[i]!r:.60} is not in the table of topic {encoded.position.topic!r}"
        raise InvalidRequestError(f"{paths.candidates}[{i}].{paths.ad_id}", reason)


def reason(encoded: EncodedRequest) -> str:
    """Why some candidates have the prior by the setting `prior`."""
    assert encoded.unknown is not None
    assert encoded.position is not None
    number = np.count_nonzero(encoded.unknown)
    return f"{number} of {encoded.size} ads are not in the table of topic {encoded.position.topic!r}"
