"""Limits of the gate, read from `configs/gate.yaml`."""

from pathlib import Path

from pydantic import Field

from model_training.config.reading import Value, read_yaml


class GateConfig(Value):
    """Limits that a candidate must keep; a limit of null is not checked.

    Attributes:
        confidence: confidence level of all intervals.
        resamples: number of bootstrap resamples.
        min_auc: the lowest AUC on the evaluation examples.
        max_auc_loss, max_gauc_loss: how far the metric may be below that of the served model, at the unfavourable end
            of the interval. The examples must show that the candidate is not worse; too few examples cannot show it.
        max_log_loss_rise: how far the log loss may be above that of the served model, in nats, at the unfavourable end.
        max_calibration_bias: the largest difference of sum of the scores / clicks from 1.
        max_bfloat16_auc_loss: how far the AUC of a candidate that computes in bfloat16 may be below that of the same
            weights in float32, at the unfavourable end of the interval.
        max_score_drift: population stability index against the served model's scores of the same examples.
        max_latency_ratio: median time for 300 candidates / that of the served model.
        max_bytes: size of the version's folder.
    """

    confidence: float = Field(default=0.95, gt=0, lt=1)
    resamples: int = Field(default=200, ge=20)
    min_auc: float | None = Field(default=0.55, ge=0, le=1)
    max_auc_loss: float | None = Field(default=0.005, ge=0)
    max_gauc_loss: float | None = Field(default=0.01, ge=0)
    max_log_loss_rise: float | None = Field(default=0.005, ge=0)
    max_calibration_bias: float | None = Field(default=0.1, ge=0)
    max_bfloat16_auc_loss: float | None = Field(default=0.0005, ge=0)
    max_score_drift: float | None = Field(default=0.25, ge=0)
    max_latency_ratio: float | None = Field(default=None, gt=0)
    max_bytes: int | None = Field(default=None, gt=0)

    @classmethod
    def from_yaml(cls, path: Path) -> "GateConfig":
        """Reads a config file.

        Raises:
            ConfigError: names the file, the key and the value, and for an unknown key the nearest valid one.
        """
        return read_yaml(cls, path, {})
