"""Makes the record of a run, and reads its config again."""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from pydantic import ValidationError

from model_training.config.training import TrainingConfig
from model_training.errors import ConfigError
from model_training.lineage.lineage import BeginsWith, Data, Lineage, Processes, Progress
from model_training.lineage.machine import this_code, this_machine
from streamer.features import FeatureSpec


def record(
    config: TrainingConfig,
    spec: FeatureSpec,
    started_at: datetime,
    *,
    data: Data | None = None,
    progress: Progress | None = None,
    processes: Processes | None = None,
    begins_with: BeginsWith | None = None,
) -> Lineage:
    """The lineage of a model that this process has just made; without `data` it was not trained.

    Args:
        started_at: the start of the run, in UTC.
        begins_with: the model of a warm start.
    """
    return Lineage(
        config=recorded(config),
        seed=config.seed,
        spec_name=spec.name,
        spec_hash=spec.hash,
        data=data,
        progress=progress,
        processes=processes,
        code=this_code(),
        machine=this_machine(),
        started_at=started_at.isoformat(timespec="seconds"),
        ended_at=datetime.now(UTC).isoformat(timespec="seconds"),
        begins_with=begins_with,
    )


def recorded(config: TrainingConfig) -> dict[str, Any]:
    """All settings with their values, also those that are defaults, as JSON values."""
    absent = {part for part in ("wide", "deep") if part not in config.model.parts}
    return config.model_dump(mode="json", exclude=absent)


def config_of(content: Mapping[str, Any], where: object) -> TrainingConfig:
    """The config of which `recorded` made `content`.

    Raises:
        ConfigError: this version of the program has other settings; names the first one.
    """
    try:
        return TrainingConfig.model_validate(content)
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(map(str, first["loc"])) or "config"
        raise ConfigError(
            f"{where}: its config does not fit this version of the program: {key}: {first['msg']}"
        ) from error
