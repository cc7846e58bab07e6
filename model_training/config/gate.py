"""Limits of the gate, read before anything is loaded."""

from pathlib import Path

from pydantic import Field

from model_training.config.reading import Value, read_yaml


class GateConfig(Value):
    """Limits, read from `configs/gate.yaml`; one that is null is not looked at.

    Attributes:
        confidence: of all intervals.
        resamples: of the bootstrap.
        min_auc: on the examples judged by.
        max_auc_loss, max_gauc_loss: how much less than the served model's it may be, at the unfavourable end of the
            interval: a candidate must be shown not to be worse, and too few examples show nothing.
        max_log_loss_rise: how much more it may be, in nats, at the unfavourable end.
        max_calibration_bias: how far sum of the scores / clicks may be from 1.
        max_score_drift: population stability index against the served model's scores on the same examples.
        max_latency_ratio: median time of 300 candidates over that of the served model.
        max_bytes: of the version's folder.
    """

    confidence: float = Field(default=0.95, gt=0, lt=1)
    resamples: int = Field(default=200, ge=20)
    min_auc: float | None = Field(default=0.55, ge=0, le=1)
    max_auc_loss: float | None = Field(default=0.005, ge=0)
    max_gauc_loss: float | None = Field(default=0.01, ge=0)
    max_log_loss_rise: float | None = Field(default=0.005, ge=0)
    max_calibration_bias: float | None = Field(default=0.1, ge=0)
    max_score_drift: float | None = Field(default=0.25, ge=0)
    max_latency_ratio: float | None = Field(default=None, gt=0)
    max_bytes: int | None = Field(default=None, gt=0)

    @classmethod
    def from_yaml(cls, path: Path) -> "GateConfig":
        """Reads a config file.

        Raises:
            ConfigError: naming the file, the key and the value, and for an unknown key the nearest right one.
        """
        return read_yaml(cls, path, {})
