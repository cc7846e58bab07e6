"""The host of a URL as a feature."""

from typing import Final
from urllib.parse import urlsplit


class Host:
    """The host of a URL in lower case, without `www.`; no value without a host.

    Raise `version` when the result for any URL changes: models were trained on the results of their version.
    """

    version: Final = 1

    def __call__(self, value: str) -> str | None:
        host = urlsplit(value).hostname
        return None if host is None else host.removeprefix("www.")


host = Host()
