"""All settings as one value, read from a YAML file and the environment. Unknown keys are rejected."""

import difflib
import os
from collections.abc import Mapping
from pathlib import Path

import yaml
from pydantic import BaseModel, ValidationError
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict, SettingsError

from streamer.errors import ConfigError
from streamer.settings.sections import (
    BatchingSettings,
    CacheSettings,
    CodecSettings,
    DeliverySettings,
    FeatureLogSettings,
    FeaturesSettings,
    GuardSettings,
    KafkaSettings,
    OffsetsSettings,
    OpsSettings,
    PredictorSettings,
    RolloutSettings,
    ServiceSettings,
    ShadowSettings,
    SinkSettings,
    SourceSettings,
    SupervisorSettings,
    TopicsSettings,
)

_SECRETS = frozenset({"sasl_password", "ssl_key_password", "token"})
ENVIRONMENT_PREFIX = "STREAMER_"
RENAMED: Mapping[str, str] = {
    "source.max_in_flight_bytes": "source.max_unacknowledged_bytes",
    "features.remembered_ads": "features.memoised_ads",
    "batching.in_flight": "batching.concurrency",
    "batching.max_in_flight_batches": "batching.max_concurrent_calls",
    "predictor.breaker_failures": "predictor.circuit_failures",
    "predictor.breaker_pause_ms": "predictor.circuit_open_ms",
    "predictor.breaker_max_pause_ms": "predictor.circuit_max_open_ms",
    "shadow.max_waiting": "shadow.max_queued_requests",
    "feature_log.max_waiting": "feature_log.max_queued_requests",
}
"""Settings of 0.1 by the name that 0.2 gave them."""


class Settings(BaseSettings):
    """Everything. Environment variables (STREAMER_KAFKA__GROUP_ID=…) win over the file, the file over the defaults."""

    model_config = SettingsConfigDict(
        frozen=True, extra="forbid", env_prefix=ENVIRONMENT_PREFIX, env_nested_delimiter="__"
    )

    kafka: KafkaSettings = KafkaSettings()
    source: SourceSettings = SourceSettings()
    codec: CodecSettings = CodecSettings()
    features: FeaturesSettings = FeaturesSettings()
    cache: CacheSettings = CacheSettings()
    batching: BatchingSettings = BatchingSettings()
    predictor: PredictorSettings = PredictorSettings()
    rollout: RolloutSettings = RolloutSettings()
    guard: GuardSettings = GuardSettings()
    shadow: ShadowSettings = ShadowSettings()
    feature_log: FeatureLogSettings = FeatureLogSettings()
    sink: SinkSettings = SinkSettings()
    offsets: OffsetsSettings = OffsetsSettings()
    delivery: DeliverySettings = DeliverySettings()
    ops: OpsSettings = OpsSettings()
    service: ServiceSettings = ServiceSettings()
    supervisor: SupervisorSettings = SupervisorSettings()
    topics: TopicsSettings = TopicsSettings()

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """The file comes in as the initial values, so the environment goes first."""
        return env_settings, init_settings


def load_settings(path: Path | None = None) -> Settings:
    """Reads the YAML file, if one is given, and the environment.

    Raises:
        ConfigError: one line an error: an unknown key with the nearest right one, a wrong value with its place.
    """
    content: object = {}
    if path is not None:
        try:
            content = yaml.safe_load(path.read_text(encoding="utf-8")) or {}
        # ValueError: bytes that are no UTF-8, days that are none.
        except (OSError, ValueError, yaml.YAMLError) as error:
            raise ConfigError(f"{path}: cannot be read: {error}") from error
    if not isinstance(content, dict):
        raise ConfigError(f"{path}: expected a mapping of sections, got {type(content).__name__}")
    _refuse_unknown_variables()
    try:
        return Settings(**{str(section): values for section, values in content.items()})
    except ValidationError as error:
        raise ConfigError("\n".join(_readable(found) for found in error.errors())) from None
    except SettingsError as error:
        raise ConfigError(f"environment: {error}; lists are written as JSON") from None


def _refuse_unknown_variables() -> None:
    for name in os.environ:
        if not name.startswith(ENVIRONMENT_PREFIX):
            continue
        section = name.removeprefix(ENVIRONMENT_PREFIX).split("__")[0].lower()
        if section not in Settings.model_fields:
            raise ConfigError(f"environment variable {name}: unknown section {section!r}{_nearest(section, Settings)}")


def _readable(found: object) -> str:
    assert isinstance(found, dict)
    where = [str(part) for part in found["loc"]]
    dotted = ".".join(where)
    if found["type"] == "extra_forbidden":
        if dotted in RENAMED:
            return f"{dotted}: renamed in 0.2.0 to {RENAMED[dotted]!r}"
        owner: type[BaseModel] = Settings
        for part in where[:-1]:
            field = owner.model_fields.get(part)
            if field is not None and isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
                owner = field.annotation
        return f"{dotted}: unknown setting{_nearest(where[-1], owner)}"
    message = found["msg"].removeprefix("Value error, ")
    # What was given for a secret, or for a section that may hold one, is not repeated.
    if (isinstance(found["input"], dict) and len(where) < 2) or any(name in _SECRETS for name in where):
        return f"{dotted}: {message}"
    return f"{dotted}: {message} (got {found['input']!r})"


def _nearest(name: str, owner: type[BaseModel]) -> str:
    close = difflib.get_close_matches(name, owner.model_fields, n=1, cutoff=0.5)
    return f"; did you mean {close[0]!r}?" if close else f"; known here: {', '.join(owner.model_fields)}"
