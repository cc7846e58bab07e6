"""One bad setting: how bad, where, why, and what to do."""

from dataclasses import dataclass
from typing import Literal

Severity = Literal["error", "warning", "advice"]
SEVERITIES: tuple[Severity, ...] = ("error", "warning", "advice")


@dataclass(frozen=True, slots=True)
class Finding:
    """One bad setting.

    Attributes:
        severity: `error`: answers are wrong, late, missing or lost now. `warning`: they will be at the next restart,
            switch or failure. `advice`: it depends on a fact that cannot be read.
        subject: the topic, group, model or server.
        reason: what was found, and its effect.
        remedy: what to change.
    """

    severity: Severity
    subject: str
    reason: str
    remedy: str
