"""`streamer spec init` writes a spec file that a person can complete."""

import re
from pathlib import Path

import pytest
import yaml

from streamer.commands.spec_template import spec_template
from streamer.errors import SpecError
from streamer.features import Encoder, FeatureSpec
from streamer.features.placeholders import COMPLETE
from streamer.serving.flat_signature import FlatSignature
from streamer.types import ModelVersion, SignatureInfo, TensorInfo

V = ModelVersion("my-model", 3)
P = {"probability": TensorInfo("float32", (-1, 1))}
INPUTS = {
    "sex": TensorInfo("string", (-1,)),
    "likes": TensorInfo("string", (-1, 3)),
    "seen": TensorInfo("int64", (-1, -1)),
    "ad:id": TensorInfo("int32", (-1, 1)),
    "numbers": TensorInfo("float32", (-1, 2)),
    "training": TensorInfo("bool", ()),
}


def completed(text: str) -> str:
    """The file after a person has completed it."""
    for place, value in (("path of", "a.b"), ("side of", "user"), ("max_values", "4"), ("constant", "false")):
        text = re.sub(f'"complete this: {place}[^"]*"', value, text)
    text = re.sub('"complete this: output[^"]*"', "probability", text)
    return re.sub('"complete this: name[^"]*"', "sex", text)


@pytest.mark.parametrize("inputs", [INPUTS, {"examples": TensorInfo("string", (-1,))}], ids=["inputs", "examples"])
def test_a_completed_file_fits_the_signature(tmp_path: Path, inputs: dict[str, TensorInfo]) -> None:
    found = SignatureInfo(inputs, P)
    text = spec_template(V, "serving_default", found)
    assert isinstance(yaml.safe_load(text), dict)
    path = tmp_path / "spec.yaml"
    path.write_text(completed(text))
    encoder = Encoder(FeatureSpec.from_yaml(path))
    assert encoder.spec.serving is not None
    FlatSignature(encoder.layout, encoder.spec.serving, found)


def test_a_file_that_is_not_complete_is_rejected_with_one_line(tmp_path: Path) -> None:
    path = tmp_path / "spec.yaml"
    path.write_text(spec_template(V, "serving_default", SignatureInfo({"sex": INPUTS["sex"]}, P)))
    with pytest.raises(SpecError) as caught:
        FeatureSpec.from_yaml(path)
    sides = "side of sex (user, context or candidate)"
    assert str(caught.value) == f"{path}: complete this: path of sex, {sides}"


@pytest.mark.parametrize(
    ("outputs", "output"),
    [
        (P, "output: probability\n"),
        ({"logits": TensorInfo("float32", (-1,))}, "output: {name: logits, activation: sigmoid}\n"),
        ({"p": TensorInfo("float64", (-1, 2)), "classes": TensorInfo("string", (-1, 2))}, "{name: p, column: 1}\n"),
        ({"a": TensorInfo("int64", (-1,)), **P, "b": TensorInfo("float32", None)}, "one of ['b', 'probability']\"\n"),
    ],
)
def test_the_output_is_chosen(outputs: dict[str, TensorInfo], output: str) -> None:
    text = spec_template(V, "serving_default", SignatureInfo({"x": TensorInfo("float32", (-1, 1))}, outputs))
    assert output in text
    yaml.safe_load(text)


def test_the_classify_signature_of_an_estimator_takes_examples() -> None:
    outputs = {"classes": TensorInfo("string", (-1, 2)), "scores": TensorInfo("float32", (-1, 2))}
    text = spec_template(V, "serving_default", SignatureInfo({"inputs": TensorInfo("string", (-1,))}, outputs))
    assert yaml.safe_load(text)["serving"]["inputs"] == {
        "inputs": {"example": {COMPLETE + "name in the Example": "feature"}}
    }
    assert "output: {name: scores, column: 1}" in text


def test_names_and_defaults() -> None:
    inputs = {"a b": INPUTS["sex"], "a_b": INPUTS["sex"], "1": INPUTS["sex"], "rate": TensorInfo("float32", ())}
    text = spec_template(V, "x y", SignatureInfo(inputs, P, frozenset({"rate"})))
    content = yaml.safe_load(text)
    assert sorted(f["name"] for f in content["features"]) == ["a_b", "a_b_2", "x1"]
    assert content["serving"]["signature"] == "x y"
    assert "remove the line: the model has a default" in text


def test_a_name_that_yaml_reads_as_another_value_is_quoted() -> None:
    inputs = {"on": INPUTS["sex"], "no": INPUTS["numbers"]}
    outputs = {"true": TensorInfo("float32", (-1,))}
    content = yaml.safe_load(spec_template(ModelVersion("null", 1), "yes", SignatureInfo(inputs, outputs)))
    assert [f["name"] for f in content["features"]] == ["no_0", "no_1", "on"]
    assert content["name"] == "null"
    assert content["serving"] == {
        "signature": "yes",
        "output": "true",
        "inputs": {"on": ["on"], "no": ["no_0", "no_1"]},
    }
