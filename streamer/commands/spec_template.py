"""A spec file from a model's signature, with marks at the places to complete. Pure."""

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, field

import yaml

from streamer.features.placeholders import COMPLETE
from streamer.spec_sample.names import new_name
from streamer.types import ModelVersion, SignatureInfo, TensorInfo

_KINDS = {"string": "text", "int32": "integer", "int64": "integer", "float32": "numeric", "float64": "numeric"}
_FLOATS = ("float32", "float64", "float16", "bfloat16")
# The last one is the name in the classify and regress signatures of tf.estimator.
_EXAMPLE_NAMES = frozenset(
    {"example", "examples", "input_example_tensor", "serialized", "serialized_example", "inputs"}
)
_MAX_NUMBERS = 64


@dataclass(slots=True)
class _Template:
    """The lines of a file."""

    features: list[str] = field(default_factory=list)
    inputs: list[str] = field(default_factory=list)
    names: set[str] = field(default_factory=set)

    def add_feature(self, wanted: str, comment: str, more: str) -> str:
        """Adds a feature and returns its name in the file, which no other one has."""
        name = new_name(self.names, wanted)
        places = f"path: {_mark(f'path of {name}')}, side: {_mark(f'side of {name} (user, context or candidate)')}"
        self.features.append(f"  - {{name: {_text(name)}, {places}, {more}}}  # {comment}")
        return _text(name)


def spec_template(version: ModelVersion, signature: str, found: SignatureInfo) -> str:
    """The text of a spec file, YAML.

    It loads when all marks are replaced; until then reading it names the places to complete.
    """
    template = _Template()
    for name, info in sorted(found.inputs.items()):
        template.inputs.append(f"    {_text(name)}: {_input(template, name, info, name in found.defaults)}")
    return "\n".join(
        [
            f'# Model {version}. Replace each text that starts with "{COMPLETE.strip()}", and check the rest.',
            "# docs/bring-your-own-model.md explains kinds, missing values, inputs and outputs.",
            f"name: {_text(version.name)}",
            "embedding_dim: 1  # not used",
            "prior: 0.01  # the score of a candidate that the model did not score",
            "features:",
            *(template.features or [f"  - {_mark('at least one feature')}"]),
            "serving:",
            f"  signature: {_text(signature)}",
            *_output(found),
            "  inputs:",
            *template.inputs,
            "",
        ]
    )


def _input(template: _Template, name: str, info: TensorInfo, has_default: bool) -> str:
    """The value of an input; adds its features."""
    comment = f"{_text(name)}: {_shown(info)}"
    if info.dtype == "string" and name.lower() in _EXAMPLE_NAMES:
        feature = template.add_feature("feature", f"one line for each feature of the Example; {comment}", "kind: text")
        return f"{{example: {{{_mark('name in the Example')}: {feature}}}}}  # serialized tf.Example"
    if info.dtype not in _KINDS or info.dims in {(), (1,)}:
        advice = ", or remove the line: the model has a default" if has_default else ""
        return f"{{constant: {_mark(f'constant for {name}')}}}  # {_shown(info)}{advice}"
    kind = _KINDS[info.dtype]
    width = info.dims[1] if info.dims is not None and len(info.dims) > 1 else 1
    if kind == "numeric":
        count = width if 1 <= width <= _MAX_NUMBERS else 1
        names = [name] if count == 1 else [f"{name}_{i}" for i in range(count)]
        features = [template.add_feature(one, comment, "kind: numeric, deep: true") for one in names]
        return f"[{', '.join(features)}]"
    more = f"kind: {kind}"
    if kind == "integer":
        more += ", default: 0"
    if width != 1:
        more += f", max_values: {width if width > 1 else _mark(f'max_values of {name}')}"
    return f"[{template.add_feature(name, comment, more)}]"


def _output(found: SignatureInfo) -> Iterator[str]:
    floats = {name: info for name, info in found.outputs.items() if info.dtype in _FLOATS}
    for name, info in sorted(found.outputs.items()):
        yield f"  # output {_text(name)}: {_shown(info)}"
    if len(floats) != 1:
        yield f"  output: {_mark(f'output, one of {sorted(floats) or sorted(found.outputs)}')}"
        return
    ((name, info),) = floats.items()
    more = ", activation: sigmoid" if "logit" in name.lower() else ""
    if info.dims is not None and len(info.dims) == 2 and info.dims[1] > 1:
        more += f", column: {info.dims[1] - 1}"
    if not more:
        yield "  # of logits: {name: …, activation: sigmoid}; of classes: {name: …, column: 1}"
    yield f"  output: {{name: {_text(name)}{more}}}" if more else f"  output: {_text(name)}"


def _mark(what: str) -> str:
    return json.dumps(COMPLETE + what)


def _text(value: str) -> str:
    # YAML reads some words, like `on` and `no`, as another value.
    is_plain = re.fullmatch(r"[A-Za-z][A-Za-z0-9_-]*", value) and yaml.safe_load(value) == value
    return value if is_plain else json.dumps(value)


def _shown(info: TensorInfo) -> str:
    return f"{info.dtype}, " + ("any shape" if info.dims is None else f"shape {list(info.dims)}")
