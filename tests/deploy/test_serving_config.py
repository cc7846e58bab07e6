"""The text protos of TensorFlow Serving: names, types, and the values that the scorer needs."""

import importlib
from typing import Any

import pytest
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory, text_format

from tests.deploy.compose import ROOT, Compose

SERVING = ROOT / "configs" / "serving"
PACKAGE = "ctr_streamer_test"
LABEL = descriptor_pb2.FieldDescriptorProto.LABEL_OPTIONAL
TYPES = {
    "bool": descriptor_pb2.FieldDescriptorProto.TYPE_BOOL,
    "int64": descriptor_pb2.FieldDescriptorProto.TYPE_INT64,
    "string": descriptor_pb2.FieldDescriptorProto.TYPE_STRING,
}


def message(name: str, **messages: dict[str, str]) -> Any:
    """An empty message `name` of a schema given as message → field → type.

    tensorflow-serving-api has no messages for these two files, so the tests define the used part of their schema
    (monitoring_config.proto and session_bundle_config.proto of TensorFlow Serving).
    """
    file = descriptor_pb2.FileDescriptorProto(name=f"{name}.proto", package=f"{PACKAGE}.{name}", syntax="proto3")
    for message_name, fields in messages.items():
        added = file.message_type.add(name=message_name)
        for number, (field, kind) in enumerate(fields.items(), start=1):
            if kind in TYPES:
                added.field.add(name=field, number=number, label=LABEL, type=TYPES[kind])
            else:
                added.field.add(
                    name=field,
                    number=number,
                    label=LABEL,
                    type=descriptor_pb2.FieldDescriptorProto.TYPE_MESSAGE,
                    type_name=f".{PACKAGE}.{name}.{kind}",
                )
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName(f"{PACKAGE}.{name}.{name}"))()


@pytest.mark.tensorflow
@pytest.mark.filterwarnings("default")
def test_models_config_serves_three_versions_of_ctr(services: dict[str, Compose]) -> None:
    schema = importlib.import_module("tensorflow_serving.config.model_server_config_pb2")
    config = text_format.Parse((SERVING / "models.config").read_text(), schema.ModelServerConfig())
    (model,) = config.model_config_list.config
    assert model.name == "ctr"
    assert model.model_platform == "tensorflow"
    assert model.model_version_policy.latest.num_versions == 3
    # The trainer writes to the base path of the server.
    assert model.base_path == services["model"]["command"][services["model"]["command"].index("--models") + 1]


def test_monitoring_config_exposes_the_path_that_prometheus_scrapes() -> None:
    empty = message(
        "MonitoringConfig",
        PrometheusConfig={"enable": "bool", "path": "string"},
        MonitoringConfig={"prometheus_config": "PrometheusConfig"},
    )
    config = text_format.Parse((SERVING / "monitoring.config").read_text(), empty)
    assert config.prometheus_config.enable
    assert config.prometheus_config.path == "/monitoring/prometheus/metrics"


def test_batching_config_holds_only_the_shared_thread_pool() -> None:
    empty = message(
        "BatchingParameters",
        Int64Value={"value": "int64"},
        StringValue={"value": "string"},
        BatchingParameters={"num_batch_threads": "Int64Value", "thread_pool_name": "StringValue"},
    )
    config = text_format.Parse((SERVING / "batching.config").read_text(), empty)
    assert config.num_batch_threads.value > 0
    assert config.thread_pool_name.value


def test_batching_config_is_not_given_to_the_server(services: dict[str, Compose]) -> None:
    assert not [flag for flag in services["model-server"]["command"] if "batching" in flag]
