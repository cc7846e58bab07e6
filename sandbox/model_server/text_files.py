"""Text files that flags name, and their messages that tensorflow-serving-api lacks."""

import re
from pathlib import Path
from typing import Any, TypeVar

from google.protobuf import descriptor_pool, message_factory, text_format, wrappers_pb2
from google.protobuf.descriptor_pb2 import FieldDescriptorProto, FileDescriptorProto
from google.protobuf.message import Message

from sandbox.model_server.status import StatusError, invalid_argument, not_found

_M = TypeVar("_M", bound=Message)
_PACKAGE = "tensorflow.serving"
_INT64 = ".google.protobuf.Int64Value"
_BOOL = ".google.protobuf.BoolValue"
_STRING = ".google.protobuf.StringValue"
# Message → field → type; [] is a repeated int64. Only texts are read, so the numbers of the fields have no meaning.
_MESSAGES: dict[str, dict[str, str]] = {
    "BatchingParameters": {
        "max_batch_size": _INT64,
        "batch_timeout_micros": _INT64,
        "max_enqueued_batches": _INT64,
        "num_batch_threads": _INT64,
        "thread_pool_name": _STRING,
        "allowed_batch_sizes": "[]",
        "pad_variable_length_inputs": "bool",
        "enable_large_batch_splitting": _BOOL,
        "max_execution_batch_size": _INT64,
    },
    "SSLConfig": {"server_key": "string", "server_cert": "string", "custom_ca": "string", "client_verify": "bool"},
    "PrometheusConfig": {"enable": "bool", "path": "string"},
    "MonitoringConfig": {"prometheus_config": f".{_PACKAGE}.PrometheusConfig"},
}
_SCALARS = {
    "bool": FieldDescriptorProto.TYPE_BOOL,
    "string": FieldDescriptorProto.TYPE_STRING,
    "[]": FieldDescriptorProto.TYPE_INT64,
}


def _described() -> dict[str, Any]:
    file = FileDescriptorProto(name="sandbox/text_files.proto", package=_PACKAGE, syntax="proto3")
    file.dependency.append(wrappers_pb2.DESCRIPTOR.name)
    for name, types in _MESSAGES.items():
        message = file.message_type.add(name=name)
        for number, (field_name, kind) in enumerate(types.items(), start=1):
            field = message.field.add(name=field_name, number=number)
            field.label = FieldDescriptorProto.LABEL_REPEATED if kind == "[]" else FieldDescriptorProto.LABEL_OPTIONAL
            if kind in _SCALARS:
                field.type = _SCALARS[kind]
            else:
                field.type, field.type_name = FieldDescriptorProto.TYPE_MESSAGE, kind
    pool = descriptor_pool.Default()
    pool.Add(file)
    return {
        name: message_factory.GetMessageClass(pool.FindMessageTypeByName(f"{_PACKAGE}.{name}")) for name in _MESSAGES
    }


_CLASSES = _described()
BatchingParameters, SslConfig, MonitoringConfig = (
    _CLASSES[name] for name in ("BatchingParameters", "SSLConfig", "MonitoringConfig")
)


def read_text_file(path: str | Path, message: _M) -> _M:
    """Fills `message` from a file in protobuf's text form, and returns it.

    Raises `StatusError` with the text of tensorflow_model_server: NOT_FOUND, or INVALID_ARGUMENT for an empty file and
    for another text.
    """
    try:
        content = Path(path).read_bytes()
    except FileNotFoundError:
        raise not_found(f"{path}; No such file or directory") from None
    except OSError as error:
        raise invalid_argument(f"{path}; {error.strerror}") from None
    if not content:
        raise invalid_argument(f"{path}; Invalid argument")
    try:
        return text_format.Parse(content.decode(), message)
    except (text_format.ParseError, UnicodeDecodeError) as error:
        raise InvalidTextError(f"Invalid protobuf file: '{path}'", _reason(str(error))) from None


def _reason(error: str) -> str:
    """The error as protobuf's C++ parser writes it, with the column after an unknown name."""
    found = re.fullmatch(r"(\d+):(\d+) : (.*)", error.replace("\n", " "))
    if found is None:
        return error
    line, column, text = found.groups()
    unknown = re.search(r'has no field named "(\w+)"', text)
    return f"{line}:{int(column) + (len(unknown[1]) + 1 if unknown else 0)}: {text}"


class InvalidTextError(StatusError):
    """INVALID_ARGUMENT: the file does not have the message's text form.

    `reason` has line, column and fault.
    """

    def __init__(self, message: str, reason: str) -> None:
        super().__init__(invalid_argument(message).code, message)
        self.reason = reason
