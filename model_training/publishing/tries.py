"""Counts the candidates that were tried on one test split, in the target's folder.

Each try is an empty file. A file is created atomically and never changed, so processes on several machines can record
tries at the same time, and a killed process leaves its try recorded.
"""

from hashlib import sha256
from pathlib import Path

from model_training.data.manifest import sha256_of
from model_training.errors import ExportError, in_a_line

RECORDS = ".gate"
"""Folder in a base path for the gate's records; servers ignore it, because its name is not a number."""
_DIGITS = 32


def record_try(base_path: Path, split: str, candidate: Path) -> int:
    """Records a candidate's try on a split; returns the number of candidates tried on it.

    The same candidate counts once, however often it is tried: its graph and variables identify it, not its path.

    Args:
        split: digest of the test split, as hexadecimal digits.

    Raises:
        ExportError: the candidate cannot be read, or the record not be written.
    """
    folder = base_path / RECORDS / "tries" / split[:_DIGITS]
    try:
        files = sorted(path for path in candidate.glob("**/*") if _identifies(path.relative_to(candidate)))
        content = sha256("".join(sha256_of(path) for path in files if path.is_file()).encode()).hexdigest()
        folder.mkdir(parents=True, exist_ok=True)
        (folder / content[:_DIGITS]).touch()
        return sum(1 for _ in folder.iterdir())
    except OSError as error:
        raise ExportError(f"{folder}: the try cannot be recorded: {in_a_line(error)}") from error


def _identifies(path: Path) -> bool:
    """Whether a file decides the scores: warm-up requests, cards and other files do not."""
    return path.name.startswith("saved_model.") or path.parts[0] == "variables"
