"""The command line of `tensorflow_model_server`, read as TensorFlow reads it."""

import os
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any

_CORES = os.cpu_count() or 1


class FlagError(Exception):
    """The server ends before it starts; the message has one line for each reason."""


def _flag(default: object, meaning: str) -> Any:
    return field(default=default, metadata={"meaning": meaning})


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerFlags:
    """One field for each flag, with the defaults of tensorflow_model_server.

    Models always load on separate threads: `num_load_threads=0` means one thread, and nothing else is loaded or
    unloaded in that time.
    """

    port: int = _flag(8500, "TCP port of the gRPC API; 0 turns it off.")
    grpc_socket_path: str = _flag("", "Path of a Unix socket of the gRPC API; empty: none.")
    rest_api_port: int = _flag(0, "TCP port of the HTTP/REST API; 0 turns it off.")
    rest_api_num_threads: int = _flag(4 * _CORES, "Threads of the HTTP/REST API.")
    rest_api_timeout_in_ms: int = _flag(30_000, "Time limit of one HTTP/REST call in ms.")
    rest_api_enable_cors_support: bool = _flag(False, "Sends CORS headers with HTTP/REST answers.")
    enable_batching: bool = _flag(False, "Runs several requests as one batch, in all models.")
    allow_version_labels_for_unavailable_models: bool = _flag(
        False, "Lets a new label name a version that is not available yet."
    )
    force_allow_any_version_labels_for_unavailable_models: bool = _flag(
        False, "Lets any label name a version that is not available."
    )
    batching_parameters_file: str = _flag("", "Text-form BatchingParameters; needs --enable_batching.")
    enable_per_model_batching_parameters: bool = _flag(
        False, "Batches only models that have batching_params.pbtxt beside saved_model.pb; needs --enable_batching."
    )
    model_config_file: str = _flag(
        "", "Text-form ModelServerConfig; --model_name and --model_base_path are then unused."
    )
    model_config_file_poll_wait_seconds: int = _flag(0, "Seconds between reads of --model_config_file; 0: only once.")
    model_name: str = _flag("default", "Name of the model.")
    model_base_path: str = _flag("", "Folder that has a folder for each version of the model.")
    num_load_threads: int = _flag(0, "Threads that load versions; 0: loads happen one after the other.")
    num_unload_threads: int = _flag(0, "Threads that unload versions; 0: unloads happen one after the other.")
    max_num_load_retries: int = _flag(5, "Retries of a load that failed.")
    load_retry_interval_micros: int = _flag(60_000_000, "Microseconds between two tries of a load.")
    file_system_poll_wait_seconds: int = _flag(1, "Seconds between looks for versions; 0: only once; below 0: never.")
    flush_filesystem_caches: bool = _flag(True, "Flushes caches of the file system after the first loads.")
    tensorflow_session_parallelism: int = _flag(0, "Threads of a session, within and between operations; 0: automatic.")
    tensorflow_intra_op_parallelism: int = _flag(0, "Threads within one operation; 0: automatic.")
    tensorflow_inter_op_parallelism: int = _flag(0, "Threads between operations; 0: automatic.")
    tensorflow_session_config_file: str = _flag("", "Text-form ConfigProto of the sessions.")
    use_alts_credentials: bool = _flag(False, "ALTS credentials on the gRPC port.")
    ssl_config_file: str = _flag("", "Text-form SSLConfig of the gRPC port; empty: no TLS.")
    platform_config_file: str = _flag("", "Text-form PlatformConfigMap.")
    per_process_gpu_memory_fraction: float = _flag(0.0, "Share of the GPU's memory; 0: automatic.")
    saved_model_tags: str = _flag("serve", "Tags of the graph to load from a SavedModel, with commas.")
    grpc_channel_arguments: str = _flag("", "Arguments of the gRPC server: a=1,b=x.")
    grpc_max_threads: int = _flag(4 * _CORES, "gRPC calls at the same time; the next call is rejected.")
    enable_model_warmup: bool = _flag(True, "Runs a version's recorded requests before it is available.")
    num_request_iterations_for_warmup: int = _flag(0, "Runs of each recorded request; 0: one.")
    version: bool = _flag(False, "Writes the version and ends.")
    monitoring_config_file: str = _flag("", "Text-form MonitoringConfig: Prometheus metrics on the REST port.")
    remove_unused_fields_from_bundle_metagraph: bool = _flag(True, "Frees parts of a loaded graph's description.")
    prefer_tflite_model: bool = _flag(False, "Loads model.tflite where there is one.")
    num_tflite_pools: int = _flag(1, "Pools of TensorFlow Lite interpreters.")
    num_tflite_interpreters_per_pool: int = _flag(1, "Interpreters of one such pool.")
    enable_signature_method_name_check: bool = _flag(False, "Rejects signatures whose method name is not the API's.")
    xla_cpu_compilation_enabled: bool = _flag(False, "Compiles graphs by XLA for the CPU.")
    xla_gpu_compilation_enabled: bool = _flag(False, "Compiles graphs by XLA for the GPU.")
    enable_profiler: bool = _flag(True, "Offers TensorFlow's profiler on the gRPC port.")
    thread_pool_factory_config_file: str = _flag("", "Text-form ThreadPoolConfig.")
    mixed_precision: str = _flag("", "Lower precision of a graph: bfloat16 or float16.")
    skip_initialize_tpu: bool = _flag(False, "Does not initialise TPUs.")
    enable_grpc_healthcheck_service: bool = _flag(False, "Offers gRPC's health service.")
    enable_serialization_as_tensor_content: bool = _flag(False, "Sends the outputs of Predict as tensor_content.")
    enforce_session_run_timeout: bool = _flag(True, "Stops a run at the deadline of its call.")


WITHOUT_EFFECT = frozenset(
    {
        "flush_filesystem_caches",
        "platform_config_file",
        "tensorflow_session_config_file",
        "num_unload_threads",
        "use_alts_credentials",
        "per_process_gpu_memory_fraction",
        "remove_unused_fields_from_bundle_metagraph",
        "prefer_tflite_model",
        "num_tflite_pools",
        "num_tflite_interpreters_per_pool",
        "xla_cpu_compilation_enabled",
        "xla_gpu_compilation_enabled",
        "enable_profiler",
        "enforce_session_run_timeout",
        "thread_pool_factory_config_file",
        "mixed_precision",
        "skip_initialize_tpu",
    }
)
"""Flags that are read and have no effect in this server."""

_BOOLEANS = {"true": True, "1": True, "false": False, "0": False}
_KINDS: Mapping[object, tuple[str, Callable[[str], object]]] = {
    bool: ("bool", lambda text: _BOOLEANS[text.lower()]),
    int: ("int32", int),
    float: ("float", float),
    str: ("string", str),
}
_TYPES = {found.name: found.type for found in fields(ServerFlags)}
_INT64 = frozenset(
    {"load_retry_interval_micros", *(name for name in _TYPES if name.startswith("tensorflow_") and name.endswith("m"))}
)


def parse_flags(arguments: Sequence[str]) -> tuple[ServerFlags, tuple[str, ...]]:
    """The flags, and the arguments that are none: a warning, not an error.

    A flag is `--name=value`; only a switch may stand without a value, which means true. The last of equal flags counts.

    Raises:
        FlagError: a value has the wrong type, or the first unknown argument is `--help`.
    """
    values: dict[str, object] = {}
    unknown: list[str] = []
    wrong: list[str] = []
    for argument in arguments:
        name, separator, value = argument.removeprefix("--").partition("=")
        kind = _TYPES.get(name) if argument.startswith("--") else None
        if kind is None or not (separator or kind is bool):
            unknown.append(argument)
            continue
        try:
            values[name] = _KINDS[kind][1](value if separator else "true")
        except (KeyError, ValueError):
            wrong.append(f"Couldn't interpret value {value} for flag {name}.")
    if wrong or unknown[:1] == ["--help"]:
        raise FlagError("\n".join(wrong))
    return ServerFlags(**values), tuple(unknown)  # type: ignore[arg-type]  # each was parsed by its field's type


def usage() -> str:
    """The text of `--help`: each flag with its default, type and meaning."""
    lines = ["usage: tensorflow_model_server", "Flags:"]
    for found in fields(ServerFlags):
        kind = "int64" if found.name in _INT64 else _KINDS[found.type][0]
        default = f'"{found.default}"' if found.type is str else str(found.default)
        default = default.lower() if found.type is bool else default
        lines.append(f"\t{f'--{found.name}={default}':<33}\t{kind}\t{found.metadata['meaning']}")
    return "\n".join(lines) + "\n"


def without_effect(flags: ServerFlags) -> tuple[str, ...]:
    """Names of flags that differ from their default and have no effect in this server."""
    return tuple(
        found.name
        for found in fields(flags)
        if found.name in WITHOUT_EFFECT and getattr(flags, found.name) != found.default
    )


def to_arguments(flags: Mapping[str, object]) -> list[str]:
    """The arguments of the flags: `{"port": 8500}` → `["--port=8500"]`; booleans in lower case."""
    return [f"--{name}={str(value).lower() if isinstance(value, bool) else value}" for name, value in flags.items()]


def channel_arguments(flags: ServerFlags) -> list[tuple[str, int | str]]:
    """`--grpc_channel_arguments`, `a=1,b=x`, as gRPC options; a 32-bit number is an int."""
    options: list[tuple[str, int | str]] = []
    for item in filter(None, flags.grpc_channel_arguments.split(",")):
        key, _, value = item.partition("=")
        is_number = re.fullmatch(r"-?[0-9]{1,10}", value) and -(2**31) <= int(value) < 2**31
        options.append((key, int(value) if is_number else value))
    return options
