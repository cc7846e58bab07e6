"""The command line of `tensorflow_model_server`; rejects flags that are not implemented."""

import difflib
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields


class FlagError(Exception):
    """The command line is invalid or not implemented; the message has the reason."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerFlags:
    """One field for each flag, with the defaults of tensorflow_model_server.

    Models always load on separate threads: `num_load_threads=0` means one thread here. A parallelism of 0 is automatic.
    `port=0` turns the port off, as in tensorflow_model_server; a Unix socket is necessary then.
    """

    port: int = 8500
    grpc_socket_path: str = ""
    grpc_max_threads: int = 4 * (os.cpu_count() or 1)
    grpc_channel_arguments: str = ""
    rest_api_port: int = 0
    model_name: str = "default"
    model_base_path: str = ""
    model_config_file: str = ""
    model_config_file_poll_wait_seconds: int = 0
    file_system_poll_wait_seconds: int = 1
    num_load_threads: int = 0
    max_num_load_retries: int = 5
    load_retry_interval_micros: int = 60_000_000
    saved_model_tags: str = "serve"
    enable_model_warmup: bool = True
    num_request_iterations_for_warmup: int = 0
    tensorflow_session_parallelism: int = 0
    tensorflow_intra_op_parallelism: int = 0
    tensorflow_inter_op_parallelism: int = 0
    enable_serialization_as_tensor_content: bool = False
    allow_version_labels_for_unavailable_models: bool = False
    force_allow_any_version_labels_for_unavailable_models: bool = False
    version: bool = False


# Flags of tensorflow_model_server that are not implemented here, with the values that need no implementation.
_UNIMPLEMENTED: Mapping[str, frozenset[str]] = {
    "batching_parameters_file": frozenset({""}),
    "enable_batching": frozenset({"false"}),
    "enable_grpc_healthcheck_service": frozenset({"false"}),
    "enable_per_model_batching_parameters": frozenset({"false"}),
    "enable_profiler": frozenset({"false"}),
    "enable_signature_method_name_check": frozenset({"false"}),
    "enforce_session_run_timeout": frozenset({"true"}),
    "flush_filesystem_caches": frozenset({"false"}),
    "mixed_precision": frozenset({""}),
    "monitoring_config_file": frozenset({""}),
    "num_tflite_interpreters_per_pool": frozenset(),
    "num_tflite_pools": frozenset(),
    "num_unload_threads": frozenset({"0"}),
    "per_process_gpu_memory_fraction": frozenset({"0", "0.0"}),
    "platform_config_file": frozenset({""}),
    "prefer_tflite_model": frozenset({"false"}),
    "remove_unused_fields_from_bundle_metagraph": frozenset({"false"}),
    "rest_api_enable_cors_support": frozenset({"false"}),
    "rest_api_num_threads": frozenset(),
    "rest_api_timeout_in_ms": frozenset(),
    "skip_initialize_tpu": frozenset({"true"}),
    "ssl_config_file": frozenset({""}),
    "tensorflow_session_config_file": frozenset({""}),
    "thread_pool_factory_config_file": frozenset({""}),
    "use_alts_credentials": frozenset({"false"}),
    "xla_cpu_compilation_enabled": frozenset({"false"}),
    "xla_gpu_compilation_enabled": frozenset({"false"}),
}

_BOOLEANS = {"true": True, "1": True, "false": False, "0": False}


def _to_bool(text: str) -> bool:
    return _BOOLEANS[text.lower()]


_PARSERS: Mapping[object, tuple[Callable[[str], object], str]] = {
    bool: (_to_bool, "true or false"),
    int: (int, "a whole number"),
    str: (str, "text"),
}
_TYPES = {field.name: field.type for field in fields(ServerFlags)}


def parse_flags(arguments: Sequence[str]) -> ServerFlags:
    """Reads `--name=value` arguments (`--name` alone is true); the last of equal flags counts.

    Raises:
        FlagError: a flag is unknown or not implemented here, or a value has the wrong type.
    """
    values: dict[str, object] = {}
    for argument in arguments:
        name, value = _split(argument)
        if name in _UNIMPLEMENTED:
            if value.lower() not in _UNIMPLEMENTED[name]:
                raise FlagError(f"--{name}={value} is a flag of tensorflow_model_server that this server does not have")
            continue
        if name not in _TYPES:
            near = difflib.get_close_matches(name, [*_TYPES, *_UNIMPLEMENTED], n=1)
            hint = f"; did you mean --{near[0]}?" if near else ""
            raise FlagError(f"unknown argument: {argument}{hint}")
        parser, kind = _PARSERS[_TYPES[name]]
        try:
            values[name] = parser(value)
        except (KeyError, ValueError):
            raise FlagError(f"--{name}={value}: the value must be {kind}") from None
    flags = ServerFlags(**values)  # type: ignore[arg-type]  # each value was parsed by its field's type
    return flags if flags.version else _checked(flags)


def to_arguments(flags: Mapping[str, object]) -> list[str]:
    """The arguments of the flags: `{"port": 8500}` → `["--port=8500"]`; booleans in lower case."""
    return [f"--{name}={str(value).lower() if isinstance(value, bool) else value}" for name, value in flags.items()]


def _split(argument: str) -> tuple[str, str]:
    if not argument.startswith("--"):
        raise FlagError(f"unknown argument: {argument}; flags are written as --name=value")
    name, separator, value = argument[2:].partition("=")
    if not separator:
        if _TYPES.get(name, bool) is not bool:
            raise FlagError(f"--{name} needs a value: --{name}=…")
        value = "true"
    return name, value


def _checked(flags: ServerFlags) -> ServerFlags:
    if flags.rest_api_port != 0:
        raise FlagError(f"--rest_api_port={flags.rest_api_port}: this server has no HTTP/REST API, only 0 (off)")
    if not flags.model_config_file and not flags.model_base_path:
        raise FlagError("give --model_base_path or --model_config_file")
    if flags.port == 0 and not flags.grpc_socket_path:
        raise FlagError("--port=0 turns the port off: give --grpc_socket_path then")
    if not 0 <= flags.port <= 65535:
        raise FlagError(f"--port={flags.port}: a port is 0 to 65535")
    for name in (
        "file_system_poll_wait_seconds",
        "model_config_file_poll_wait_seconds",
        "num_load_threads",
        "max_num_load_retries",
    ):
        if getattr(flags, name) < 0:
            raise FlagError(f"--{name}={getattr(flags, name)}: the value must not be negative")
    if flags.grpc_max_threads < 1:
        raise FlagError(f"--grpc_max_threads={flags.grpc_max_threads}: at least one thread is needed")
    channel_arguments(flags)
    return flags


def channel_arguments(flags: ServerFlags) -> list[tuple[str, int | str]]:
    """`--grpc_channel_arguments`, `a=1,b=x`, as gRPC options; a numeric value becomes an int."""
    options: list[tuple[str, int | str]] = []
    for item in filter(None, flags.grpc_channel_arguments.split(",")):
        key, separator, value = item.partition("=")
        if not separator:
            raise FlagError(f"--grpc_channel_arguments={flags.grpc_channel_arguments}: {item} is not key=value")
        options.append((key, int(value) if value.lstrip("-").isdigit() else value))
    return options
