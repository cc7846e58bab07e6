"""The learning rate of each step of a run."""

import math
from collections.abc import Callable
from dataclasses import dataclass

import tensorflow as tf

from model_training.config.training import ScheduleConfig


def _start() -> tf.Tensor:
    return tf.zeros([])


@dataclass(frozen=True, slots=True)
class Clock:
    """The position in a run, as optimizers see it.

    Attributes:
        made: returns the number of steps before this one, float32 scalar.
        total: number of steps of the whole run.
    """

    made: Callable[[], tf.Tensor] = _start
    total: int = 1

    def factor(self, schedule: ScheduleConfig | None) -> tf.Tensor | float:
        """The factor of the learning rates in this step, float32 scalar.

        Warm-up: (t + 1) / w for t < w. Then with u = (t - w) / (total - w) and the final share f: 1 - (1 - f) u
        (`linear`), or f + (1 - f) (1 + cos π u) / 2 (`cosine`; Loshchilov and Hutter: SGDR, 2017, without restarts).
        """
        if schedule is None:
            return 1.0
        made = self.made()
        warmup = math.ceil(schedule.warmup_share * self.total)
        done = tf.clip_by_value((made - warmup) / max(1, self.total - warmup), 0.0, 1.0)
        left = {"none": 1.0, "linear": 1.0 - done, "cosine": (1.0 + tf.cos(math.pi * done)) / 2.0}[schedule.decay]
        factor = schedule.final_share + (1.0 - schedule.final_share) * left
        return tf.minimum((made + 1.0) / warmup, 1.0) * factor if warmup else tf.convert_to_tensor(factor)


START = Clock()
"""The position before the first step, of a run without a schedule."""
