"""Batching parameters of the flags and of one model, with their defaults and checks."""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sandbox.model_server.flags import ServerFlags
from sandbox.model_server.status import invalid_argument
from sandbox.model_server.text_files import BatchingParameters, read_text_file

MODEL_FILE = "batching_params.pbtxt"
"""Name of one model's parameters, beside its saved_model.pb."""


@dataclass(frozen=True, slots=True)
class Batching:
    """How rows of several requests become one batch; the sizes are rows.

    - `allowed_sizes`: a batch is padded to the next of these; empty: never.
    - `pad_variable_length`: inputs of different lengths are padded to the longest one.
    - `split_large`: a request larger than a batch is split; `max_execution_rows` then limits one run.
    """

    max_rows: int = 1000
    timeout_us: int = 0
    max_enqueued_batches: int = 10
    threads: int = os.cpu_count() or 1
    allowed_sizes: tuple[int, ...] = ()
    pad_variable_length: bool = False
    split_large: bool = False
    max_execution_rows: int = 0


def global_batching(flags: ServerFlags) -> Batching | None:
    """The parameters of all models; None: no batching, or each model has its own.

    Raises `StatusError` if the file is absent, invalid, or given without --enable_batching.
    """
    if not flags.enable_batching:
        if flags.batching_parameters_file:
            raise invalid_argument(
                "server_options.batching_parameters_file is set without setting server_options.enable_batching to true."
            )
        return None
    found = _read(flags.batching_parameters_file) if flags.batching_parameters_file else Batching()
    if found.threads < 1:
        raise invalid_argument(f"num_batch_threads must be positive; was {found.threads}")
    return None if flags.enable_per_model_batching_parameters else found


def model_batching(flags: ServerFlags, path: Path) -> Batching | None:
    """The parameters of the model version in folder `path`; None: it is not batched.

    Raises `StatusError`: the load of the version fails.
    """
    if flags.enable_batching and flags.enable_per_model_batching_parameters:
        file = path / MODEL_FILE
        found = _read(file) if file.is_file() else None
    else:
        found = global_batching(flags)
    if found and found.allowed_sizes and found.allowed_sizes[-1] != _largest(found):
        raise invalid_argument(
            "Last entry in allowed_batch_sizes must match max_batch_size; "
            f"last entry was {found.allowed_sizes[-1]}; expected {_largest(found)}"
        )
    return found


def _largest(found: Batching) -> int:
    return (found.split_large and found.max_execution_rows) or found.max_rows


def _read(path: str | Path) -> Batching:
    message: Any = read_text_file(path, BatchingParameters())
    names = {
        "max_batch_size": "max_rows",
        "batch_timeout_micros": "timeout_us",
        "max_enqueued_batches": "max_enqueued_batches",
        "num_batch_threads": "threads",
        "enable_large_batch_splitting": "split_large",
        "max_execution_batch_size": "max_execution_rows",
    }
    given = {name: getattr(message, field).value for field, name in names.items() if message.HasField(field)}
    found = Batching(
        allowed_sizes=tuple(message.allowed_batch_sizes),
        pad_variable_length=message.pad_variable_length_inputs,
        **given,
    )
    # The real server ends with a segmentation fault for these two.
    if found.max_rows < 1:
        raise invalid_argument(f"max_batch_size must be positive; was {found.max_rows}")
    if found.timeout_us < 0:
        raise invalid_argument(f"batch_timeout_micros must not be negative; was {found.timeout_us}")
    return found
