"""Limits of the gate, read from `configs/gate.yaml`."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import Field, model_validator

from model_training.config.reading import Value, read_yaml

_REMOVED = {
    "resamples": "remove it, intervals need no resamples",
    "max_log_loss_rise": "use max_normalised_entropy_rise, the rise relative to the entropy of the click rate",
}


class GateConfig(Value):
    """Limits that a candidate must keep; a limit of null is not checked.

    The unfavourable end of each interval decides: the examples must show that the candidate keeps the limit, and too
    few examples cannot show it.

    Attributes:
        confidence: confidence level of all intervals together over all tries on one test split.
        window_days: for how many days after its publication the best version stays the bar for later ones, beside the
            newest version; with 0 each version is compared with the newest one only.
        min_clicks: the fewest clicks, and the fewest non-clicks.
        min_auc: the lowest AUC.
        max_normalised_entropy: the highest log loss / log loss of a constant score that equals the click rate.
        max_calibration_bias: the largest difference of sum of the scores / clicks from 1.
        max_auc_loss, max_gauc_loss, max_request_gauc_loss: how far the metric may be below that of the newest, and of
            the best version.
        max_normalised_entropy_rise: how far the normalised entropy may be above that of these versions.
        max_bfloat16_auc_loss: how far the AUC of a candidate that computes in bfloat16 may be below that of the same
            weights in float32.
        max_score_drift: population stability index against the served model's scores of the same examples.
        max_latency_ratio: median time for 300 candidates / that of the served model.
        max_bytes: size of the version's folder.
    """

    confidence: float = Field(default=0.95, gt=0, lt=1)
    window_days: float = Field(default=90, ge=0)
    min_clicks: int | None = Field(default=100, ge=2)
    min_auc: float | None = Field(default=0.55, ge=0, le=1)
    max_normalised_entropy: float | None = Field(default=1.0, gt=0)
    max_calibration_bias: float | None = Field(default=0.2, ge=0)
    max_auc_loss: float | None = Field(default=0.005, ge=0)
    max_gauc_loss: float | None = Field(default=0.01, ge=0)
    max_request_gauc_loss: float | None = Field(default=None, ge=0)
    max_normalised_entropy_rise: float | None = Field(default=0.01, ge=0)
    max_bfloat16_auc_loss: float | None = Field(default=0.0005, ge=0)
    max_score_drift: float | None = Field(default=0.25, ge=0)
    max_latency_ratio: float | None = Field(default=None, gt=0)
    max_bytes: int | None = Field(default=None, gt=0)

    @model_validator(mode="before")
    @classmethod
    def _names_successors(cls, content: Any) -> Any:
        for old, remedy in _REMOVED.items():
            if isinstance(content, Mapping) and old in content:
                raise ValueError(f"{old}: no longer a limit; {remedy}")
        return content

    @classmethod
    def from_yaml(cls, path: Path) -> "GateConfig":
        """Reads a config file.

        Raises:
            ConfigError: names the file, the key and the value, and for an unknown key the nearest valid one.
        """
        return read_yaml(cls, path, {})
