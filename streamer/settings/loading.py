"""All settings as one value, read from a YAML file and the environment."""

import difflib
import os
from collections.abc import Mapping
from pathlib import Path

import yaml
from pydantic import BaseModel, ValidationError
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict, SettingsError

from streamer.errors import ConfigError
from streamer.settings import deployment, sections

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
"""Settings of 0.1 and their names since 0.2."""


class Settings(BaseSettings):
    """All sections. Unknown and renamed keys are rejected.

    Environment variables (STREAMER_KAFKA__GROUP_ID=…) override the file; the file overrides defaults.
    """

    model_config = SettingsConfigDict(
        frozen=True, extra="forbid", env_prefix=ENVIRONMENT_PREFIX, env_nested_delimiter="__"
    )

    kafka: deployment.KafkaSettings = deployment.KafkaSettings()
    source: sections.SourceSettings = sections.SourceSettings()
    codec: sections.CodecSettings = sections.CodecSettings()
    features: sections.FeaturesSettings = sections.FeaturesSettings()
    cache: sections.CacheSettings = sections.CacheSettings()
    batching: sections.BatchingSettings = sections.BatchingSettings()
    predictor: sections.PredictorSettings = sections.PredictorSettings()
    rollout: sections.RolloutSettings = sections.RolloutSettings()
    guard: sections.GuardSettings = sections.GuardSettings()
    shadow: sections.ShadowSettings = sections.ShadowSettings()
    feature_log: sections.FeatureLogSettings = sections.FeatureLogSettings()
    sink: sections.SinkSettings = sections.SinkSettings()
    offsets: sections.OffsetsSettings = sections.OffsetsSettings()
    delivery: sections.DeliverySettings = sections.DeliverySettings()
    ops: deployment.OpsSettings = deployment.OpsSettings()
    service: deployment.ServiceSettings = deployment.ServiceSettings()
    supervisor: deployment.SupervisorSettings = deployment.SupervisorSettings()
    topics: deployment.TopicsSettings = deployment.TopicsSettings()

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """The environment comes before the initial values, which are the content of the file."""
        return env_settings, init_settings


def load_settings(path: Path | None = None) -> Settings:
    """Reads the YAML file, if one is given, and the environment.

    Raises:
        ConfigError: one line per error: an unknown key with the most similar known one, a renamed key with its new
            name, or a wrong value with its setting.
    """
    content: object = {}
    if path is not None:
        try:
            content = yaml.safe_load(path.read_text(encoding="utf-8")) or {}
        # ValueError: bytes that are not UTF-8, dates that do not exist.
        except (OSError, ValueError, yaml.YAMLError) as error:
            raise ConfigError(f"{path}: cannot be read: {error}") from error
    if not isinstance(content, dict):
        raise ConfigError(f"{path}: expected a mapping of sections, got {type(content).__name__}")
    _check_variables()
    try:
        return Settings(**{str(section): values for section, values in content.items()})
    except ValidationError as error:
        raise ConfigError("\n".join(_readable(found) for found in error.errors())) from None
    except SettingsError as error:
        raise ConfigError(f"environment: {error}; lists are written as JSON") from None


def variable_of(setting: str) -> str:
    """The environment variable of a setting, which is given as `section.name`."""
    return ENVIRONMENT_PREFIX + setting.replace(".", "__").upper()


def _check_variables() -> None:
    renamed = {variable_of(old): variable_of(new) for old, new in RENAMED.items()}
    for name in os.environ:
        if not name.startswith(ENVIRONMENT_PREFIX):
            continue
        if name.upper() in renamed:
            raise ConfigError(f"environment variable {name}: renamed in 0.2.0 to {renamed[name.upper()]}")
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
    # Never repeat the input of a secret, or of a section that can contain one.
    if (isinstance(found["input"], dict) and len(where) < 2) or any(name in _SECRETS for name in where):
        return f"{dotted}: {message}"
    return f"{dotted}: {message} (got {found['input']!r})"


def _nearest(name: str, owner: type[BaseModel]) -> str:
    close = difflib.get_close_matches(name, owner.model_fields, n=1, cutoff=0.5)
    return f"; did you mean {close[0]!r}?" if close else f"; known here: {', '.join(owner.model_fields)}"
