"""Message classes of TensorFlow Serving's API, without TensorFlow.

The descriptors are those of the packages tensorflow-serving-api and tensorflow, unchanged (`descriptors_pb2.py`). They
are in a descriptor pool of this module, so that a process can also load these packages, in any order and version.
The classes of the two are distinct: a message passes from one to the other as bytes.
"""

from types import SimpleNamespace
from typing import Any

from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.internal.enum_type_wrapper import EnumTypeWrapper  # as in all generated code
from google.protobuf.message_factory import GetMessageClass

from streamer.serving.descriptors_pb2 import FILES

_pool = DescriptorPool()
for _file in FILES:
    _pool.AddSerializedFile(_file)


def _module(file: str) -> Any:
    """The messages and enums of a file, under the names of its generated module."""
    found = _pool.FindFileByName(file)
    names: dict[str, Any] = {name: GetMessageClass(message) for name, message in found.message_types_by_name.items()}
    for name, enum in found.enum_types_by_name.items():
        names[name] = EnumTypeWrapper(enum)
        names |= names[name].items()
    return SimpleNamespace(**names)


tensor_pb2 = _module("tensorflow/core/framework/tensor.proto")
types_pb2 = _module("tensorflow/core/framework/types.proto")
get_model_metadata_pb2 = _module("tensorflow_serving/apis/get_model_metadata.proto")
get_model_status_pb2 = _module("tensorflow_serving/apis/get_model_status.proto")
predict_pb2 = _module("tensorflow_serving/apis/predict.proto")
