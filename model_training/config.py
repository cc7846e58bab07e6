"""What a training run is made of: frozen values read from `configs/models/*.yaml`."""

from collections.abc import Iterable
from difflib import get_close_matches
from pathlib import Path
from typing import Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from model_training.errors import ConfigError
from streamer.features import FeatureSpec, SpecError

ModelName = Literal["wide_deep"]


class _Value(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class FtrlConfig(_Value):
    """FTRL-Proximal of the wide part (McMahan et al. 2013). Penalties are in units of one example's loss."""

    learning_rate: float = Field(default=0.05, gt=0)
    initial_accumulator: float = Field(default=0.1, gt=0)
    l1: float = Field(default=0.0, ge=0)
    l2: float = Field(default=0.0, ge=0)


class AdaGradConfig(_Value):
    """AdaGrad (Duchi et al. 2011) of the deep part; the embedding table may learn at a rate of its own."""

    learning_rate: float = Field(default=0.02, gt=0)
    embedding_learning_rate: float = Field(default=0.05, gt=0)
    initial_accumulator: float = Field(default=0.1, gt=0)


class TrainingConfig(_Value):
    """One training run.

    Attributes:
        spec: the feature spec's file; in a config file it is relative to that file.
        hidden_units: widths of the dense layers, first to last.
        batch_size: examples a step.
        shuffle_buffer: examples among which the next one is drawn; 0 keeps the order of the records.
        deterministic: the same records and seed give the same model; costs some input speed.
    """

    model: ModelName = "wide_deep"
    spec: Path
    hidden_units: tuple[int, ...] = Field(default=(256, 256, 256), min_length=1)
    embedding_stddev: float = Field(default=0.05, gt=0)
    batch_size: int = Field(default=1024, ge=1)
    epochs: int = Field(default=1, ge=1)
    shuffle_buffer: int = Field(default=50_000, ge=0)
    deterministic: bool = True
    seed: int = 1
    wide: FtrlConfig = FtrlConfig()
    deep: AdaGradConfig = AdaGradConfig()

    @classmethod
    def from_yaml(cls, path: Path) -> "TrainingConfig":
        """Reads a config file.

        Raises:
            ConfigError: naming the file, the key and the value, and for an unknown key the nearest right one.
        """
        try:
            content = yaml.safe_load(path.read_text(encoding="utf-8"))
        except (OSError, yaml.YAMLError) as error:
            raise ConfigError(f"{path}: cannot be read: {' '.join(str(error).split())}") from error
        if not isinstance(content, dict):
            raise ConfigError(f"{path}: expected a mapping of settings")
        try:
            config = cls.model_validate(content)
        except ValidationError as error:
            raise ConfigError("; ".join(_readable(str(path), error))) from None
        return config.model_copy(update={"spec": path.parent / config.spec})


def load_spec(path: Path) -> FeatureSpec:
    """Reads a feature spec.

    Raises:
        ConfigError: naming the file, the feature, the field and the value.
    """
    try:
        return FeatureSpec.from_yaml(path)
    except SpecError as error:
        raise ConfigError("; ".join(str(error).splitlines())) from None


def _readable(source: str, error: ValidationError) -> Iterable[str]:
    for found in error.errors():
        *parents, key = (str(part) for part in found["loc"])
        where = ".".join([*parents, key])
        if found["type"] != "extra_forbidden":
            yield f"{source}: {where}: {found['msg']}" + (
                "" if isinstance(found["input"], dict) else f" (got {found['input']!r})"
            )
            continue
        section: type[BaseModel] = TrainingConfig
        for parent in parents:
            annotation = section.model_fields[parent].annotation
            section = annotation if isinstance(annotation, type) else section
        near = get_close_matches(key, section.model_fields, n=1)
        hint = f"did you mean {near[0]!r}?" if near else f"known are {', '.join(section.model_fields)}"
        yield f"{source}: {where}: unknown key; {hint}"
