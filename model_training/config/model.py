"""The section `model` of `configs/models/*.yaml`: the kind of model, and its own settings."""

from typing import Annotated, ClassVar, Literal, get_args

from pydantic import BeforeValidator, Field, PositiveInt

from model_training.config.reading import Value

Part = Literal["wide", "deep"]


class _Network(Value):
    """Settings that all networks have.

    Attributes:
        parts: the parts of the model, each with its own optimizer: the linear part (`wide`) and the rest (`deep`).
        hidden_units: widths of the dense layers, first to last.
        embedding_stddev: standard deviation of the initial embeddings.
    """

    parts: ClassVar[frozenset[Part]] = frozenset({"wide", "deep"})
    hidden_units: tuple[PositiveInt, ...] = Field(default=(256, 256, 256), min_length=1)
    embedding_stddev: float = Field(default=0.05, gt=0)


class WideDeepConfig(_Network):
    """Wide & Deep (Cheng et al. 2016)."""

    kind: Literal["wide_deep"] = "wide_deep"


class DeepFmConfig(_Network):
    """DeepFM (Guo et al. 2017)."""

    kind: Literal["deepfm"] = "deepfm"


class DcnConfig(_Network):
    """Deep & Cross, version 1 (Wang et al. 2017).

    Each of the `cross_layers` raises the degree by one.
    """

    parts: ClassVar[frozenset[Part]] = frozenset({"deep"})
    kind: Literal["dcn"] = "dcn"
    cross_layers: PositiveInt = 3


class DcnV2Config(_Network):
    """Deep & Cross, version 2 (Wang et al. 2021).

    Attributes:
        rank: rank of the cross layers' matrices; None for full rank.
        structure: the dense layers read the output of the cross layers (`stacked`), or the same inputs (`parallel`).
    """

    parts: ClassVar[frozenset[Part]] = frozenset({"deep"})
    kind: Literal["dcn_v2"] = "dcn_v2"
    cross_layers: PositiveInt = 2
    rank: PositiveInt | None = None
    structure: Literal["stacked", "parallel"] = "stacked"


class XDeepFmConfig(_Network):
    """xDeepFM (Lian et al. 2018).

    `feature_maps` has the number of maps in each CIN layer; the cost grows with their square.
    """

    kind: Literal["xdeepfm"] = "xdeepfm"
    feature_maps: tuple[PositiveInt, ...] = Field(default=(32, 32), min_length=1)


class LogisticRegressionConfig(Value):
    """Logistic regression over single features, without crosses (McMahan et al. 2013)."""

    parts: ClassVar[frozenset[Part]] = frozenset({"wide"})
    kind: Literal["logistic_regression"] = "logistic_regression"


AnyModelConfig = WideDeepConfig | DeepFmConfig | DcnConfig | DcnV2Config | XDeepFmConfig | LogisticRegressionConfig

KINDS: dict[str, type[Value]] = {c.model_fields["kind"].default: c for c in get_args(AnyModelConfig)}


def _named(value: object) -> object:
    return {"kind": value} if isinstance(value, str) else value


ModelConfig = Annotated[Annotated[AnyModelConfig, Field(discriminator="kind")], BeforeValidator(_named)]
"""A mapping with `kind` and that model's settings, or the kind alone for its default settings."""
