"""What differs between the code and machine of a version and those of this process; pure."""

from dataclasses import asdict
from typing import Any

from model_training.identity import flat
from model_training.lineage.lineage import Code, Machine


def differences(made: tuple[Code, Machine], now: tuple[Code, Machine]) -> list[str]:
    """One line for each value that differs; an empty list if all are equal."""
    before, after = ({**flat(asdict(code), "code."), **flat(asdict(machine))} for code, machine in (made, now))
    lines = [
        f"{key}: {_shown(before.get(key))} then, {_shown(after.get(key))} now"
        for key in {**before, **after}
        if before.get(key) != after.get(key)
    ]
    if made[0].dirty and now[0].commit == made[0].commit:
        lines.append("code: the version was trained with changes that no commit has")
    return lines


def _shown(value: Any) -> str:
    if isinstance(value, tuple):
        return " ".join(map(str, value)) or "none"
    return "unknown" if value is None else str(value)
