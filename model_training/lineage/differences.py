"""What differs between the code and machine of a version and those of this process; pure."""

from collections.abc import Iterator, Mapping
from dataclasses import asdict
from typing import Any

from model_training.lineage.lineage import Code, Machine


def differences(made: tuple[Code, Machine], now: tuple[Code, Machine]) -> list[str]:
    """One line for each value that differs; an empty list if all are equal."""
    before, after = ({**_flat(asdict(code), "code."), **_flat(asdict(machine))} for code, machine in (made, now))
    lines = [
        f"{key}: {_shown(before.get(key))} then, {_shown(after.get(key))} now"
        for key in {**before, **after}
        if before.get(key) != after.get(key)
    ]
    if made[0].dirty and now[0].commit == made[0].commit:
        lines.append("code: the version was trained with changes that no commit has")
    return lines


def _flat(content: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    return dict(_pairs(content, prefix))


def _pairs(content: Mapping[str, Any], prefix: str) -> Iterator[tuple[str, Any]]:
    for key, value in content.items():
        if isinstance(value, Mapping):
            yield from _pairs(value, prefix)
        else:
            yield prefix + key, list(value) if isinstance(value, tuple) else value


def _shown(value: Any) -> str:
    if isinstance(value, list):
        return " ".join(map(str, value)) or "none"
    return "unknown" if value is None else str(value)
