"""Maps from a model's scores to click rates that were observed later; pure.

The maps rise strictly, so they never change the order of candidates.
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np

from streamer.types import F32, F64

CalibrationKind = Literal["none", "platt", "isotonic"]
_EDGE = 1e-7


@dataclass(frozen=True, slots=True)
class Platt:
    """scale · z + offset for log odds z; `scale` is above 0.

    Platt: Probabilistic Outputs for Support Vector Machines (1999).
    """

    scale: float
    offset: float
    kind: Literal["platt"] = "platt"

    def of(self, log_odds: F64) -> F64:
        """The calibrated log odds, float64 [n]."""
        return self.scale * log_odds + self.offset


@dataclass(frozen=True, slots=True)
class Isotonic:
    """Linear between the points (inputs[i], outputs[i]), which are log odds.

    Outside the points, log odds are shifted as at the nearest one. Both lists rise strictly, and have at least two
    values.
    """

    inputs: tuple[float, ...]
    outputs: tuple[float, ...]
    kind: Literal["isotonic"] = "isotonic"

    def of(self, log_odds: F64) -> F64:
        """The calibrated log odds, float64 [n]."""
        outside = log_odds - np.clip(log_odds, self.inputs[0], self.inputs[-1])
        return np.asarray(np.interp(log_odds, self.inputs, self.outputs) + outside, np.float64)


@dataclass(frozen=True, slots=True)
class Figures:
    """Calibration of some scores.

    Attributes:
        log_loss: mean, in nats.
        calibration: sum of the scores / clicks.
        calibration_error: expected calibration error in 20 bins of equal count.
    """

    log_loss: float
    calibration: float
    calibration_error: float


@dataclass(frozen=True, slots=True)
class Calibration:
    """A map, and the examples on which it was fitted.

    Attributes:
        sampling_rate: share of the non-clicks that the training examples kept, relative to those of the fit. The map
            is for log odds that are corrected by it.
        before, after: figures of the scores of the fit's examples.
    """

    map: Platt | Isotonic
    sampling_rate: float
    examples: int
    clicks: int
    before: Figures
    after: Figures

    def scores(self, ctr: F32) -> F32:
        """The calibrated scores, float32 [n], of scores that are corrected by the sampling rate."""
        return calibrated(self.map, ctr)


def calibrated(way: Platt | Isotonic, ctr: F32) -> F32:
    """The scores, float32 [n], by a map."""
    scores: F32 = (1 / (1 + np.exp(-way.of(log_odds(ctr))))).astype(np.float32)
    return scores


def log_odds(ctr: F32) -> F64:
    """Log odds of scores, float64 [n], within ± 16."""
    given = np.clip(ctr.astype(np.float64), _EDGE, 1 - _EDGE)
    odds: F64 = np.log(given) - np.log1p(-given)
    return odds
