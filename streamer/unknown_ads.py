"""What happens to a request with ads that the table does not contain. Pure."""

from collections.abc import Callable

import numpy as np

from streamer.settings.sections import UnknownAds
from streamer.types import EncodedRequest, RequestPaths


def check(
    encoded: EncodedRequest, setting: UnknownAds, paths: RequestPaths, count: Callable[[int], None]
) -> str | None:
    """Counts the unknown ads of a request.

    Returns:
        Why the request is invalid by the setting `invalid`: it names the first one. None: it is valid.
    """
    if encoded.unknown is None or encoded.position is None:
        return None
    count(int(np.count_nonzero(encoded.unknown)))
    if setting != "invalid":
        return None
    i = int(encoded.unknown.argmax())
    name = f"{encoded.ad_ids[i]!r:.60}"
    return f"{paths.candidates}[{i}].{paths.ad_id}: {name} is not in the table of topic {encoded.position.topic!r}"


def reason(encoded: EncodedRequest) -> str:
    """Why some candidates have the prior by the setting `prior`."""
    assert encoded.unknown is not None
    assert encoded.position is not None
    number = np.count_nonzero(encoded.unknown)
    return f"{number} of {encoded.size} ads are not in the table of topic {encoded.position.topic!r}"
