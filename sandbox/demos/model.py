"""The model of the demo, and its baseline."""

import subprocess
import sys
import time
from contextlib import nullcontext
from pathlib import Path

from rich.console import Console

from sandbox.errors import SandboxError
from sandbox.processes.progress import beats
from sandbox.processes.system import model_base
from sandbox.traffic.quality import Documents, ScoreFunction
from streamer.features import Encoder, FeatureSpec
from streamer.types import F32

SPEC = Path("configs/features/reference.yaml")
MODEL_CONFIG = Path("configs/models/wide_deep.yaml")
_BASELINE_REQUESTS = 15_000


class DemoError(SandboxError):
    """A step of a demo failed."""


def train(console: Console, log: Path, out: Path) -> None:
    """Trains and exports version 1 in a child process, unless it exists.

    The child process prints its progress.

    Raises:
        DemoError: the training failed; it has printed the reason.
    """
    console.print("training Wide & Deep on the log, and exporting version 1 ...", style="bold")
    started = time.monotonic()
    base = model_base(out)
    version = base / "1"
    if version.exists():
        console.print(f"  {version} exists from an earlier run; `make clean` removes it")
        return
    command = [sys.executable, "-m", "model_training", "train", "--log", str(log)]
    command += ["--spec", str(SPEC), "--config", str(MODEL_CONFIG), "--records", str(out / "records")]
    command += ["--export-to", str(base), "--version", "1"]
    process = subprocess.Popen(command)
    try:
        # In a terminal the child has a bar that moves.
        with nullcontext() if console.is_terminal else beats(console):
            status = process.wait()
    finally:
        if process.poll() is None:
            process.terminate()
            process.wait(10)
    if status:
        raise DemoError(f"training exited with status {status}")
    console.print(f"  trained and exported in {time.monotonic() - started:.0f} s")


def logistic_regression(log: Path) -> ScoreFunction:
    """A logistic regression without crosses, fitted on the first impressions of the log."""
    # Imported here: scikit-learn takes seconds to load, which would delay the start of the demo.
    from model_training.data.click_log import encode_log, read_log  # noqa: PLC0415
    from model_training.data.examples import joined  # noqa: PLC0415
    from model_training.evaluation.baseline import LogisticBaseline  # noqa: PLC0415

    encoder = Encoder(FeatureSpec.from_yaml(SPEC))
    parts = list(encode_log(read_log(log, last=_BASELINE_REQUESTS), encoder))
    examples = joined(parts, encoder.layout.row_ids, encoder.layout.row_floats)
    model = LogisticBaseline(encoder.layout).fit(examples)

    def score(documents: Documents, candidates: Documents, shown: list[int]) -> F32:
        return model.predict(*encoder.encode_log(documents, candidates, shown))

    return score
