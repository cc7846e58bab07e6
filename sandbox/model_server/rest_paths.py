"""Paths of the REST API: model, version or label, and the action. Pure."""

import re
from dataclasses import dataclass

from sandbox.model_server.status import invalid_argument

INT64_MAX = 2**63 - 1

_CHOICE = r"(?:/versions/(?P<version>\d+)|/labels/(?P<label>[^/:]+))?"
_INFERENCE = re.compile(rf"/v1/models/(?P<model>[^/:]+){_CHOICE}:(?P<action>classify|regress|predict)", re.I | re.A)
_STATUS = re.compile(rf"/v1/models(?:/(?P<model>[^/:]+))?{_CHOICE}(?:/(?P<action>metadata))?", re.I | re.A)
_SERVED = re.compile(r"/v1/.*", re.I | re.A)
_INFERENCES = ("classify", "regress", "predict")


@dataclass(frozen=True, slots=True)
class Target:
    """What a request asks for; `action` is classify, regress, predict, metadata or status.

    `version` may be above int64: the server answers 400 with an empty body.
    """

    model: str
    version: int | None
    label: str | None
    action: str


def is_served(path: str) -> bool:
    """Whether the REST API answers this path; another one is not found."""
    return _SERVED.fullmatch(path) is not None


def target_of(method: str, path: str) -> Target:
    """The target of a request. Raises `StatusError` (INVALID_ARGUMENT).

    A path is compared as it was sent: a query and `%3A` are not decoded. Its fixed parts are in any case, but the
    action is in lower case; `/Metadata` is therefore the status.
    """
    malformed = invalid_argument(f"Malformed request: {method} {path}")
    if method == "POST" and (found := _INFERENCE.fullmatch(path)):
        if found["action"] not in _INFERENCES:
            raise malformed
        action = found["action"]
    elif method == "GET" and (found := _STATUS.fullmatch(path)):
        action = "metadata" if found["action"] == "metadata" else "status"
        if not found["model"]:
            raise invalid_argument("Missing model name in request.")
    else:
        raise malformed
    # 20 digits are more than int64 holds; Python converts at most 4,300.
    version = None if found["version"] is None else int(found["version"].lstrip("0")[:20] or "0")
    return Target(found["model"], version, found["label"], action)
