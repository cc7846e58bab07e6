"""The configs in the package: in a checkout a link to `configs/`, in the wheel the files."""

from pathlib import Path

CONFIGS = Path(__file__).parents[1] / "configs"
MODEL_CONFIG = CONFIGS / "models" / "wide_deep.yaml"
GATE = CONFIGS / "gate.yaml"


def packaged_instead(path: Path) -> str:
    """The end of a message about a missing `configs/…` of a checkout: the packaged file."""
    inside = CONFIGS.joinpath(*path.parts[1:])
    return f"; the package has {inside}" if path.parts[:1] == ("configs",) and inside.is_file() else ""
