"""Labels of versions, such as `stable`, in the model config file of TensorFlow Serving.

A server that polls the file (`--model_config_file_poll_wait_seconds`) applies a label as soon as the label's version is
loaded; until then the previous file is in force. A client then requests `version_label: "stable"`.
"""

import os
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from google.protobuf import text_format
from tensorflow_serving.config.model_server_config_pb2 import ModelServerConfig

from model_training.errors import ConfigError, ExportError
from model_training.export.versions import versions_in


def set_label(path: Path, base_path: Path, label: str, version: int) -> None:
    """Assigns `label` to a version of the model that has the name of the folder `base_path`.

    Raises:
        ConfigError: the file cannot be read, or has no such model.
        ExportError: the server would not serve that version, or the file cannot be written.
    """
    write_labels(path, with_label(path, base_path, label, version, versions_in(base_path)))


def with_label(path: Path, base_path: Path, label: str, version: int, versions: Sequence[int]) -> str:
    """The file's new text with `label` assigned, after a check of all the model's labels.

    Each label must name one of the future `versions`. Comments before the first setting are kept; other comments are
    lost.

    Raises:
        ConfigError: the file cannot be read, or has no such model.
        ExportError: a label of the model would name a version that is not served.
    """
    try:
        text = path.read_text(encoding="utf-8")
        config = text_format.Parse(text, ModelServerConfig())
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: cannot be read: {error}") from error
    except text_format.ParseError as error:
        raise ConfigError(f"{path}: not a model config of TensorFlow Serving: {error}") from error
    name = base_path.resolve().name
    models = {model.name: model for model in config.model_config_list.config}
    if name not in models:
        raise ConfigError(f"{path}: has no model {name!r}; it has {', '.join(map(repr, models)) or 'none'}")
    models[name].version_labels[label] = version
    served = _served(models[name].model_version_policy, versions)
    for known, labelled in sorted(models[name].version_labels.items()):
        if labelled not in served:
            raise ExportError(
                f"label {known!r} would name version {labelled} of {name!r}, which the policy in {path} does not serve"
                f" (served versions: {', '.join(map(str, served)) or 'none'})"
            )
    head = []
    for line in text.splitlines():
        if line.strip() and not line.startswith("#"):
            break
        head.append(line)
    return "\n".join([*head, text_format.MessageToString(config)])


def write_labels(path: Path, text: str) -> None:
    """Replaces the file atomically: a server that polls it reads the old or the new file.

    Raises:
        ExportError: the file cannot be written.
    """
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        with partial.open("w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        shutil.copymode(path, partial)
        partial.replace(path)
    except OSError as error:
        raise ExportError(f"{path}: cannot be written: {error}") from error
    finally:
        partial.unlink(missing_ok=True)


def _served(policy: Any, versions: Sequence[int]) -> list[int]:
    """The versions of a model that a `ServableVersionPolicy` serves, oldest first."""
    match policy.WhichOneof("policy_choice"):
        case "all":
            return sorted(versions)
        case "specific":
            return sorted(set(versions) & set(policy.specific.versions))
        case _:
            return sorted(versions)[-max(policy.latest.num_versions, 1) :]
