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
from model_training.export.versions import Found, found_in, model_name
from model_training.publishing.config_text import set_in_text


def set_label(path: Path, base_path: Path, label: str, version: int) -> None:
    """Assigns `label` to a version of the model that has the name of the folder `base_path`.

    Raises:
        ConfigError: the file cannot be read, or has no such model.
        ExportError: the server would not serve that version, or the file cannot be written.
    """
    write_labels(path, with_label(path, base_path, label, version, found_in(base_path)))


def with_label(path: Path, base_path: Path, label: str, version: int, versions: Sequence[Found]) -> str:
    """The file's new text with `label` assigned, after a check of all the model's labels.

    Each label must name one of the future `versions`. Only the label changes; the rest of the text is kept.

    Raises:
        ConfigError: the file cannot be read, or has no such model or two of them.
        ExportError: a label of the model would name a version that is not served.
    """
    try:
        text = path.read_bytes().decode()
        config = text_format.Parse(text, ModelServerConfig())
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: cannot be read: {error}") from error
    except (text_format.ParseError, RecursionError) as error:
        raise ConfigError(f"{path}: not a model config of TensorFlow Serving: {error}") from error
    name = model_name(base_path)
    models = [model.name for model in config.model_config_list.config]
    if models.count(name) != 1:
        known = ", ".join(map(repr, models)) or "none"
        how_many = "twice" if name in models else "no"
        raise ConfigError(f"{path}: has {how_many} model {name!r}; it has {known}")
    position = models.index(name)
    model = config.model_config_list.config[position]
    model.version_labels[label] = version
    served = _served(model.model_version_policy, versions)
    for known, labelled in sorted(model.version_labels.items()):
        if labelled not in served:
            faults = {found.number: f"; {found.path}: {found.fault}" for found in versions if found.fault}
            raise ExportError(
                f"label {known!r} would name version {labelled} of {name!r}, which the policy in {path} does not serve"
                f" (served versions: {', '.join(map(str, served)) or 'none'}){faults.get(labelled, '')}"
            )
    changed = set_in_text(text, position, label, version)
    if changed is None or text_format.Parse(changed, ModelServerConfig()) != config:
        raise ConfigError(f"{path}: the label cannot be set without a change of other settings; set it by hand")
    return changed


def write_labels(path: Path, text: str) -> None:
    """Replaces the file atomically: a server that polls it reads the old or the new file.

    A symbolic link stays; the file that it leads to is replaced.

    Raises:
        ExportError: the file cannot be written.
    """
    path = path.resolve()
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        with partial.open("w", encoding="utf-8", newline="") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        shutil.copymode(path, partial)
        partial.replace(path)
    except OSError as error:
        raise ExportError(f"{path}: cannot be written: {error}") from error
    finally:
        partial.unlink(missing_ok=True)


def _served(policy: Any, versions: Sequence[Found]) -> list[int]:
    """The versions of a model that a `ServableVersionPolicy` serves, oldest first.

    A broken version takes one of the places of `latest`, and is not served.
    """
    numbers = sorted(found.number for found in versions)
    match policy.WhichOneof("policy_choice"):
        case "all":
            aspired = numbers
        case "specific":
            aspired = [number for number in numbers if number in set(policy.specific.versions)]
        case _:
            aspired = numbers[-max(policy.latest.num_versions, 1) :]
    broken = {found.number for found in versions if found.fault}
    return [number for number in aspired if number not in broken]
