"""Embeddings of several dimensions, and embeddings that features share."""

import copy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from model_training.config.training import TrainingConfig
from model_training.data.click_log import encode_log, read_log
from model_training.data.examples import Examples
from model_training.distributed.parameter_servers.variables import PartitionedVariables, gradients_of, rules_of
from model_training.errors import ConfigError
from model_training.models.build import build_model
from model_training.parts.inputs import flat_inputs
from model_training.training.optimizers import WideDeepOptimizer
from streamer.features import Encoder, FeatureSpec
from tests.model_training.conftest import SPEC

pytestmark = pytest.mark.tensorflow


def _changed(**changes: dict[str, object]) -> FeatureSpec:
    content: dict[str, Any] = copy.deepcopy(SPEC)
    for feature in content["features"]:
        feature.update(changes.get(feature["name"], {}))
    return FeatureSpec.from_mapping(content)


_MIXED = _changed(user={"embedding_dim": 7}, tags={"embedding_dim": 2}, tags_x_ad={"embedding_dim": 7})


def _examples(spec: FeatureSpec, log: Path) -> Examples:
    (found,) = encode_log(read_log(log, last=10), Encoder(spec))
    return found


@pytest.mark.parametrize("kind", ["wide_deep", "dcn", "dcn_v2"])
def test_each_feature_has_the_dimension_that_the_spec_gives(kind: str, log: Path) -> None:
    config = TrainingConfig.model_validate({"spec": "unused", "model": {"kind": kind, "hidden_units": [4]}})
    model: Any = build_model(config, _MIXED)
    part, examples, layout = model.embedding, _examples(_MIXED, log), Encoder(_MIXED).layout
    assert [table.shape.as_list() for table in part.tables] == [[31, 2], [30 + 26 + 60 + 1, 4], [50 + 200 + 1, 7]]
    inputs = flat_inputs(layout, tf.constant(examples.ids), tf.constant(examples.floats))
    # By the spec alone: the row of a feature in the table of its dimension, for each of its values; no value, no row.
    tables, starts = [table.numpy() for table in part.tables], {2: 1, 4: 31, 7: 31 + 116}
    column, fields = 0, dict[str, Any]()
    for group in ("request", "candidate", "pair"):
        for at in layout.ids[group]:
            dim = {"user": 7, "tags": 2, "tags_x_ad": 7}.get(at.feature.name, 4)
            ids = examples.ids[:, column : column + at.width]
            column += at.width
            if at.feature.deep:
                values = np.where(ids > 0, ids - starts[dim] + 1, 0)
                found = tables[[2, 4, 7].index(dim)][values].sum(axis=1)
                fields[at.feature.name] = (
                    found / np.maximum(1, (ids > 0).sum(axis=1, keepdims=True))
                    if (at.feature.name == "tags")
                    else found
                )
    # Fields of one table are in order of width.
    request = np.hstack([fields[name] for name in ("tags", "hour", "likes", "user")])
    np.testing.assert_allclose(part.request(inputs).vectors, request, atol=1e-6)
    np.testing.assert_allclose(
        part.candidate(inputs).vectors, np.hstack([fields["ad"], fields["tags_x_ad"]]), atol=1e-6
    )
    assert model.logits(inputs).shape == (30,)
    assert {id(table) for table in part.tables} <= {
        id(v) for v in WideDeepOptimizer(model, config.wide, config.deep).trained
    }


@pytest.mark.parametrize("kind", ["deepfm", "xdeepfm"])
def test_a_model_that_multiplies_embeddings_needs_equal_dimensions(kind: str) -> None:
    config = TrainingConfig.model_validate({"spec": "unused", "model": kind})
    with pytest.raises(ConfigError, match=r"spec 'small': embedding_dim: features have 2 and 4 dimensions, but this"):
        build_model(config, _MIXED)


def test_features_that_share_rows_learn_one_embedding(log: Path) -> None:
    # Users' likes are ads.
    spec = _changed(likes={"shares": "ad", "buckets": 0})
    layout = Encoder(spec).layout
    likes, ad = (next(c for ids in layout.ids.values() for c in ids if c.feature.name == n) for n in ("likes", "ad"))
    assert (likes.offset, likes.rows) == (ad.offset, 60)
    ids, _ = Encoder(spec).encode_log([{"user": {"likes": ["ad3", "ad7"]}}], [{"ad_id": "ad7"}, {"ad_id": "ad3"}], [2])
    liked, shown = ids[0, likes.start : likes.start + 2], ids[:, layout.id_width("request") + ad.start]
    assert liked.tolist() == shown.tolist()[::-1]
    model: Any = build_model(TrainingConfig.model_validate({"spec": "unused", "model": "deepfm"}), spec)
    assert model.embedding.table.shape[0] == layout.embedded_rows == 1 + 50 + 30 + 26 + 60 + 200


def test_tables_of_several_dimensions_are_cut_into_shards(log: Path) -> None:
    config = TrainingConfig.model_validate({"spec": "unused", "model": {"kind": "wide_deep", "hidden_units": [4]}})
    examples, layout = _examples(_MIXED, log), Encoder(_MIXED).layout
    inputs = flat_inputs(layout, tf.constant(examples.ids), tf.constant(examples.floats))
    whole = build_model(config, _MIXED).logits(inputs)
    with tf.Graph().as_default(), tf.compat.v1.Session() as session:
        model = build_model(config, _MIXED, create=PartitionedVariables(2))
        logits = model.logits(flat_inputs(layout, tf.constant(examples.ids), tf.constant(examples.floats)))
        learnt = {variable.op.name for _, variable in gradients_of(tf.reduce_sum(logits), model)}
        session.run(tf.compat.v1.global_variables_initializer())
        np.testing.assert_allclose(session.run(logits), whole, atol=1e-5)
    assert learnt == set(rules_of(model, config))
    assert {"deep/embedding_table/part_1", "deep/embedding_table_4/part_0", "deep/embedding_table_7/part_1"} < learnt
