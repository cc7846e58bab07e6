"""All settings as one value, read from a YAML file and the environment."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from streamer.errors import ConfigError
from streamer.settings import deployment, sections
from streamer.settings.conflicts import conflicts
from streamer.settings.environment import Environment, meant_as_settings, source_of
from streamer.settings.names import (
    DELIMITER,
    ENVIRONMENT_PREFIX,
    REMOVED,
    RENAMED,
    nearest,
    printable,
    sections_of,
)

_SECRETS = frozenset({"password", "sasl_password", "ssl_key_password", "token", "url"})
"""A URL that is rejected can contain a password."""


class Settings(BaseSettings):
    """All sections. Unknown and renamed keys are rejected.

    Environment variables (STREAMER_KAFKA__GROUP_ID=…) override the file; the file overrides defaults.
    """

    model_config = SettingsConfigDict(
        frozen=True, extra="forbid", env_prefix=ENVIRONMENT_PREFIX, env_nested_delimiter=DELIMITER
    )

    kafka: deployment.KafkaSettings = deployment.KafkaSettings()
    source: sections.SourceSettings = sections.SourceSettings()
    codec: sections.CodecSettings = sections.CodecSettings()
    features: sections.FeaturesSettings = sections.FeaturesSettings()
    ads: sections.AdsSettings = sections.AdsSettings()
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
    http: deployment.HttpSettings = deployment.HttpSettings()
    ops: deployment.OpsSettings = deployment.OpsSettings()
    tracing: deployment.TracingSettings = deployment.TracingSettings()
    registry: deployment.RegistrySettings = deployment.RegistrySettings()
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
        return Environment(settings_cls), init_settings


def load_settings(path: Path | None = None) -> Settings:
    """Reads the YAML file, if one is given, and the environment.

    Raises:
        ConfigError: one line per error: an unknown key with the most similar known one, a renamed key with its new
            name, a wrong value with its setting and its environment variable, or two settings that contradict each
            other.
    """
    content = {} if path is None else _read(path)
    known = sections_of(Settings)
    variables, lines = meant_as_settings(os.environ, known)
    lines += [f"{name}: unknown setting{nearest(name, known)}" for name in content if name not in known]
    try:
        settings = Settings(**{name: values for name, values in content.items() if name in known})
    except ValidationError as error:
        lines += [_readable(found, variables) for found in error.errors()]
    else:
        lines += conflicts(settings)
        if not lines:
            return settings
    raise ConfigError("\n".join(map(printable, lines)))


class _Loader(yaml.SafeLoader):
    """Rejects a key that occurs twice: PyYAML would ignore the first one."""

    # Before merge keys (`<<`) are resolved, which copies keys into a mapping that overrides them.
    def compose_mapping_node(self, anchor: Any) -> yaml.MappingNode:
        node: yaml.MappingNode = super().compose_mapping_node(anchor)
        seen: set[str] = set()
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode):
                if key.value in seen:
                    raise yaml.constructor.ConstructorError(None, None, f"{key.value!r} occurs twice", key.start_mark)
                seen.add(key.value)
        return node


def _read(path: Path) -> dict[str, Any]:
    try:
        content = yaml.load(path.read_text(encoding="utf-8"), _Loader) or {}  # noqa: S506  a SafeLoader
    except Exception as error:
        # PyYAML raises errors of many classes for wrong tags, dates and numbers.
        raise ConfigError(printable(f"{path}: cannot be read: {_fault(error)}")) from error
    if not isinstance(content, dict):
        raise ConfigError(f"{path}: expected a mapping of sections, got {type(content).__name__}")
    return {str(section): values for section, values in content.items()}


def _fault(error: Exception) -> str:
    """The message of an error, without the line of the file, which can contain a secret."""
    if isinstance(error, yaml.MarkedYAMLError) and error.problem is not None and error.problem_mark is not None:
        return f"line {error.problem_mark.line + 1}, column {error.problem_mark.column + 1}: {error.problem}"
    return " ".join(str(error).split())


def _readable(found: Any, variables: Mapping[str, str]) -> str:
    where = [str(part) for part in found["loc"]]
    dotted = ".".join(where)
    variable = source_of(where, variables)
    origin = "" if variable is None else f"environment variable {variable}: "
    if found["type"] == "extra_forbidden":
        if dotted in RENAMED:
            return f"{origin}{dotted}: renamed in 0.2.0 to {RENAMED[dotted]!r}"
        if dotted in REMOVED:
            return f"{origin}{dotted}: removed in 0.2.0: {REMOVED[dotted]}"
        return f"{origin}{dotted}: unknown setting{nearest(where[-1], sections_of(Settings)[where[0]].model_fields)}"
    message = found["msg"].removeprefix("Value error, ")
    # Never repeat the input of a secret, or of a section that can contain one.
    if len(where) < 2 or any(name in _SECRETS for name in where):
        return f"{origin}{dotted}: {message}"
    return f"{origin}{dotted}: {message} (got {found['input']!r})"
