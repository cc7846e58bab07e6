"""Writes the diagram and the table of `docs/model-switch.md` from the transition table."""

from collections.abc import Iterator
from pathlib import Path

from streamer.rollout.transitions import TRANSITIONS, Kind

PAGE = Path(__file__).parents[1] / "model-switch.md"
BEGIN = "<!-- begin: written by docs/scripts/draw_model_switch.py -->"
END = "<!-- end -->"


def edges() -> Iterator[tuple[Kind, Kind, list[str]]]:
    """From, to, and the events that lead there. A transition to the same kind is no edge."""
    for column, start in enumerate(Kind):
        for end in Kind:
            by = [event.__name__ for event, row in TRANSITIONS.items() if end in row[column]]
            if by and end is not start:
                yield start, end, by


def name(kind: Kind) -> str:
    """The name of a kind, as the page has it."""
    return str(kind.name).lower()


def drawn() -> str:
    """The generated part of the page: a Mermaid diagram and a table."""
    lines = ["```mermaid", "stateDiagram-v2", "    [*] --> nothing"]
    lines += [f"    {name(start)} --> {name(end)}: {', '.join(by)}" for start, end, by in edges()]
    lines += ["```", "", f"| event | {' | '.join(map(name, Kind))} |", "|---|---|---|---|---|"]
    for event, row in TRANSITIONS.items():
        cells = (", ".join(name(kind) for kind in Kind if kind in allowed) or "–" for allowed in row)
        lines.append(f"| `{event.__name__}` | {' | '.join(cells)} |")
    return "\n".join(lines)


def page() -> str:
    """The page with the generated part renewed."""
    before, _, rest = PAGE.read_text(encoding="utf-8").partition(BEGIN)
    _, _, after = rest.partition(END)
    return f"{before}{BEGIN}\n{drawn()}\n{END}{after}"


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
