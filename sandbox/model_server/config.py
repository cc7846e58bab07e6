"""Reads TensorFlow Serving's `ModelServerConfig` from a file, a reload request or two flags."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from tensorflow_serving.config.file_system_storage_path_source_pb2 import FileSystemStoragePathSourceConfig
from tensorflow_serving.config.model_server_config_pb2 import TENSORFLOW, ModelServerConfig
from tensorflow_serving.config.platform_config_pb2 import PlatformConfigMap

from sandbox.model_server.batching_parameters import global_batching
from sandbox.model_server.flags import ServerFlags
from sandbox.model_server.policy import ALL_VERSIONS, VersionPolicy
from sandbox.model_server.status import invalid_argument
from sandbox.model_server.text_files import SslConfig, read_text_file


@dataclass(frozen=True, slots=True)
class ModelConfig:
    """One model: name in requests, folder of its versions, version policy, and labels."""

    name: str
    base_path: Path
    policy: VersionPolicy = field(default_factory=VersionPolicy)
    labels: Mapping[str, int] = field(default_factory=dict)


def check_flags(flags: ServerFlags) -> None:
    """Raises `StatusError` if no port or no model is given, or a file of a flag is not valid."""
    if not flags.port and not flags.grpc_socket_path:
        raise invalid_argument(
            "At least one of server_options.grpc_port or server_options.grpc_socket_path must be set."
        )
    if not flags.model_base_path and not flags.model_config_file:
        raise invalid_argument("Both server_options.model_base_path and server_options.model_config_file are empty!")
    if flags.platform_config_file:
        read_text_file(flags.platform_config_file, PlatformConfigMap())
    global_batching(flags)
    if flags.ssl_config_file:
        read_text_file(flags.ssl_config_file, SslConfig())


def read_config(flags: ServerFlags) -> tuple[ModelConfig, ...] | None:
    """The models of the command line; None if the file sets nothing.

    Raises `StatusError` for a file that cannot be read, an invalid file or path.
    """
    if not flags.model_config_file:
        config = ModelServerConfig()
        config.model_config_list.config.add(
            name=flags.model_name, base_path=flags.model_base_path, model_platform="tensorflow"
        )
        return from_proto(config)
    config = read_text_file(flags.model_config_file, ModelServerConfig())
    return from_proto(config) if config.WhichOneof("config") else None


def from_proto(config: ModelServerConfig, served: Collection[str] = ()) -> tuple[ModelConfig, ...]:
    """Validates a `ModelServerConfig`, returns its models; `served` names the models in use.

    Raises `StatusError` (INVALID_ARGUMENT).
    """
    if config.WhichOneof("config") == "custom_model_config":
        raise invalid_argument("custom_model_config is not supported, only model_config_list")
    models: dict[str, ModelConfig] = {}
    for entry in config.model_config_list.config:
        if entry.name in models:
            raise invalid_argument(f"Illegal to list model {entry.name} multiple times in config list")
        platform = entry.model_platform or ("tensorflow" if entry.model_type == TENSORFLOW else "")
        if not platform:
            raise invalid_argument(
                "Illegal setting neither ModelServerConfig::model_type (deprecated) nor "
                f"ModelServerConfig::model_platform, model name is {entry.name}"
            )
        if platform != "tensorflow" and entry.name in served:
            raise invalid_argument(
                f"Illegal to change a model's platform. For model {entry.name} platform was tensorflow and new "
                f"platform requested is {platform}"
            )
        if platform != "tensorflow":
            raise invalid_argument(f"Model {entry.name} requests unsupported platform {platform}")
        if not Path(entry.base_path).is_absolute():
            raise invalid_argument(
                f"Expected model {entry.name} to have an absolute path or URI; got base_path()={entry.base_path}"
            )
        policy = _policy(entry.model_version_policy)
        models[entry.name] = ModelConfig(entry.name, Path(entry.base_path), policy, dict(entry.version_labels))
    return tuple(models.values())


def _policy(choice: FileSystemStoragePathSourceConfig.ServableVersionPolicy) -> VersionPolicy:
    match choice.WhichOneof("policy_choice"):
        case "all":
            return ALL_VERSIONS
        case "specific":
            return VersionPolicy(latest=None, specific=frozenset(choice.specific.versions))
        case _:
            return VersionPolicy(latest=max(choice.latest.num_versions, 1))
