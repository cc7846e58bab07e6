"""Initial values of tables in shards: the bits of whole tables, computed on their servers."""

import pytest
import tensorflow as tf

from model_training.config.training import TrainingConfig
from model_training.distributed.cluster import Cluster, Task
from model_training.distributed.parameter_servers.optimizer import CompositeOptimizer
from model_training.distributed.parameter_servers.variables import PartitionedVariables, rules_of
from model_training.models.build import build_model
from model_training.parts.variables import padded_normal, zeros
from streamer.features import FeatureSpec, Layout
from tests.model_training.distributed.parameter_servers.in_process import graph_of

pytestmark = pytest.mark.tensorflow

CLUSTER = Cluster(("a:1", "b:1"), "c:1", ())


@pytest.mark.parametrize("shape", [[37, 10], [21, 3], [50]])
def test_any_rows_have_the_bits_of_the_whole_table(shape: list[int]) -> None:
    rows, row = shape[0], shape[1:]
    drawn = 0.05 * tf.random.stateless_normal([rows - 1, *row], seed=[3, 7])
    expected = tf.concat([tf.zeros([1, *row]), drawn], axis=0).numpy()
    initialize = padded_normal(0.05, 3, 7)
    for first, end in ((0, rows), (0, 1), (0, 6), (1, 2), (5, rows), (rows - 1, rows)):
        found = initialize([end - first, *row], first).numpy()
        assert found.tobytes() == expected[first:end].tobytes(), (first, end)
    assert not zeros([4, *row], 5).numpy().any()


def test_a_variable_and_its_slots_begin_on_their_server(spec: FeatureSpec) -> None:
    config = TrainingConfig.model_validate({"spec": "unused", "model": {"kind": "wide_deep", "hidden_units": [8]}})
    with graph_of(CLUSTER, Task("chief", 0)):
        model = build_model(config, spec, create=PartitionedVariables(8))
        optimizer = CompositeOptimizer(rules_of(model, config), padded=[], batch_size=1)
        trained = [v for v in model.trainable_variables if v.shape.num_elements()]
        optimizer.apply_gradients([(tf.zeros(v.shape), v) for v in trained])
        variables = tf.compat.v1.global_variables()
    assert len({variable.device for variable in variables}) == 2
    whole = {Layout(spec).table_rows, Layout(spec).embedded_rows}
    for variable in variables:
        neighbours = {f"loc:@{v.op.name}".encode() for v in variables if v.device == variable.device}
        for operation in _upstream(variable.initializer):
            beside = bool(neighbours & set(operation.colocation_groups()))
            assert beside or operation.device == variable.device, f"{variable.op.name}: {operation.name}"
            assert not whole & {size for output in operation.outputs for size in output.shape or ()}, operation.name


def _upstream(operation: tf.Operation) -> set[tf.Operation]:
    found, left = {operation}, [operation]
    while left:
        inputs = {tensor.op for tensor in left.pop().inputs} - found
        found |= inputs
        left += inputs
    return found
