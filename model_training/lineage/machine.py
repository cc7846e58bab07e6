"""The code and the machine of this process, as far as they decide the bits of a model."""

import os
import platform
import re
import subprocess
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError
from importlib.metadata import version as installed
from pathlib import Path

import model_training
from model_training.lineage.lineage import Code, Machine

_PACKAGE = "ctr-streamer"
_LIBRARIES = ("tensorflow", "numpy", "pyspark")
_CPU_FEATURE = re.compile(r"avx\w*|fma|amx_\w+|sve\w*|asimd\w*|bf16|i8mm")
_ENVIRONMENT = re.compile(
    r"TF_(ENABLE_ONEDNN_OPTS|NUM_INTRAOP_THREADS|NUM_INTEROP_THREADS|DETERMINISTIC_OPS|XLA_FLAGS)"
    r"|(ONE)?DNNL?_MAX_CPU_ISA|OMP_NUM_THREADS|CUDA_VISIBLE_DEVICES"
)
_CODE = ("model_training", "streamer")
_GIT_SECONDS = 10.0


def this_code() -> Code:
    """The code of this process."""
    root = Path(model_training.__file__).resolve().parents[1]
    version = _version(_PACKAGE) or "unknown"
    # The package may be installed inside a checkout of another project.
    if _git(root, "rev-parse", "--show-toplevel") != str(root):
        return Code(version)
    changes = _git(root, "status", "--porcelain", "--", *_CODE)
    return Code(version, _git(root, "rev-parse", "HEAD") or None, None if changes is None else bool(changes))


def this_machine() -> Machine:
    """The machine of this process, with the accelerators that TensorFlow sees."""
    cpu, features = _cpu()
    return Machine(
        python=platform.python_version(),
        libraries={name: found for name in _LIBRARIES if (found := _version(name)) is not None},
        architecture=platform.machine(),
        cpu=cpu,
        cpu_features=tuple(sorted(feature for feature in features if _CPU_FEATURE.fullmatch(feature))),
        cores=len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1,
        accelerators=_accelerators(),
        environment={name: os.environ[name] for name in sorted(os.environ) if _ENVIRONMENT.fullmatch(name)},
    )


def _version(package: str) -> str | None:
    try:
        return installed(package)
    except PackageNotFoundError:
        return None


def _git(root: Path, *arguments: str) -> str | None:
    """The output of a git command; None without git or a repository."""
    command = ["git", "--no-optional-locks", "-C", str(root), *arguments]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=_GIT_SECONDS, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()


def _cpu() -> tuple[str, Sequence[str]]:
    """The name of the CPU and all its features, as Linux lists them."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").split("\n\n", 1)[0].splitlines()
    except OSError:
        return platform.processor(), ()
    known = {key.strip(): value.strip() for key, _, value in (line.partition(":") for line in lines)}
    name = known.get("model name") or platform.processor()
    return name, (known.get("flags") or known.get("Features") or "").split()


def _accelerators() -> tuple[str, ...]:
    import tensorflow as tf  # noqa: PLC0415 - takes seconds, and most users of this module have loaded it

    devices = [device for device in tf.config.get_visible_devices() if device.device_type != "CPU"]
    return tuple(tf.config.experimental.get_device_details(d).get("device_name", d.device_type) for d in devices)
