"""All settings as Markdown: the content of `docs/settings.md`."""

import json
from typing import Literal, get_args, get_origin

from pydantic import BaseModel

from streamer.settings.loading import Settings


def settings_table() -> str:
    """A table for each section: its settings with defaults, descriptions and allowed values."""
    lines = [
        "# Settings",
        "",
        "`streamer settings` writes this page. In the file a setting is under its section. The environment variable",
        "`STREAMER_SECTION__NAME` overrides the file; a list is JSON, or its items are separated by commas.",
    ]
    for section, field in Settings.model_fields.items():
        owner = field.annotation
        assert isinstance(owner, type)
        assert issubclass(owner, BaseModel)
        lines += ["", f"## {section}", "", owner.__doc__ or "", "", "| setting | default | meaning |", "|---|---|---|"]
        for name, one in owner.model_fields.items():
            default = json.dumps(list(one.default) if isinstance(one.default, tuple) else one.default, default=str)
            lines.append(f"| `{name}` | `{default}` | {one.description}{_allowed(one.annotation)} |")
    return "\n".join(lines) + "\n"


def _allowed(annotation: object) -> str:
    return f" ({', '.join(f'`{v}`' for v in get_args(annotation))})" if get_origin(annotation) is Literal else ""
