"""Series that alerts watch exist from the start: `increase` sees no first value of a new one."""

from typing import get_args

import pytest

from streamer.kafka.dead_letters import UNREADABLE_STAGE
from streamer.metrics import Metrics
from streamer.types import DeadLetterStage


@pytest.mark.parametrize("stage", [*get_args(DeadLetterStage), UNREADABLE_STAGE])
def test_each_stage_of_a_dead_letter_is_0_at_the_start(stage: str) -> None:
    assert Metrics().registry.get_sample_value("streamer_sink_dead_letters_total", {"stage": stage}) == 0
