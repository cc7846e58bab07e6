"""How the scorer calls a model of another project: the part `serving` of a spec."""

from collections.abc import Mapping
from typing import Annotated, Literal

from pydantic import Discriminator, Field, Tag

from streamer.features.kinds import SpecValue
from streamer.types import ScoreOutput

Number = bool | int | float | str


class ExampleInput(SpecValue):
    """An input of serialized `tf.Example`s: each name in the Example with its feature."""

    example: Mapping[str, str] = Field(min_length=1)


class ConstantInput(SpecValue):
    """An input that has one value in all calls."""

    constant: Number | tuple[Number, ...]


class Output(SpecValue):
    """The output that holds the click probabilities.

    Attributes:
        activation: the function that turns the output into probabilities; None: it holds them.
        column: the class that means a click, if the output has one column for each class.
    """

    name: str
    activation: Literal["sigmoid", "softmax"] | None = None
    column: int | None = Field(default=None, ge=0)


def _form(value: object) -> str:
    if isinstance(value, dict):
        return "constant" if "constant" in value else "example"
    if isinstance(value, ExampleInput | ConstantInput):
        return "example" if isinstance(value, ExampleInput) else "constant"
    return "features"


Input = Annotated[
    Annotated[tuple[str, ...], Tag("features"), Field(min_length=1)]
    | Annotated[ExampleInput, Tag("example")]
    | Annotated[ConstantInput, Tag("constant")],
    Discriminator(_form),
]


def _output_form(value: object) -> str:
    return "name" if isinstance(value, str) else "output"


class FlatServing(SpecValue):
    """How the scorer calls a foreign model: the content of each input, and the output to read."""

    signature: str = "serving_default"
    inputs: Mapping[str, Input] = Field(min_length=1)
    output: Annotated[Annotated[str, Tag("name")] | Annotated[Output, Tag("output")], Discriminator(_output_form)]

    @property
    def scores(self) -> ScoreOutput:
        """The output, also where the spec has only its name."""
        if isinstance(self.output, str):
            return ScoreOutput(self.output)
        return ScoreOutput(self.output.name, self.output.activation, self.output.column)

    @property
    def columns(self) -> Mapping[str, tuple[str, ...]]:
        """By input, the features whose columns it holds."""
        return {name: source for name, source in self.inputs.items() if isinstance(source, tuple)}

    @property
    def examples(self) -> Mapping[str, Mapping[str, str]]:
        """By input of serialized Examples, the feature of each name in the Example."""
        return {name: source.example for name, source in self.inputs.items() if isinstance(source, ExampleInput)}

    @property
    def constants(self) -> Mapping[str, Number | tuple[Number, ...]]:
        """By input, its constant."""
        return {name: source.constant for name, source in self.inputs.items() if isinstance(source, ConstantInput)}
