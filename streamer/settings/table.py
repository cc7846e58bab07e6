"""All settings as Markdown: the content of `docs/settings.md`."""

import ast
import inspect
import json
from itertools import pairwise
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
        texts = descriptions(owner)
        for name, one in owner.model_fields.items():
            default = json.dumps(list(one.default) if isinstance(one.default, tuple) else one.default, default=str)
            lines.append(f"| `{name}` | `{default}` | {texts[name]}{_allowed(one.annotation)} |")
    return "\n".join(lines) + "\n"


def descriptions(section: type[BaseModel]) -> dict[str, str]:
    """The text below each setting of a section.

    Pydantic can read these texts, but it does so in every process that loads the settings, and takes 0.07 s.
    """
    (found,) = ast.parse(inspect.getsource(section)).body
    assert isinstance(found, ast.ClassDef)
    return {
        setting.target.id: inspect.cleandoc(text.value.value)
        for setting, text in pairwise(found.body)
        if isinstance(setting, ast.AnnAssign) and isinstance(setting.target, ast.Name)
        if isinstance(text, ast.Expr) and isinstance(text.value, ast.Constant) and isinstance(text.value.value, str)
    }


def _allowed(annotation: object) -> str:
    return f" ({', '.join(f'`{v}`' for v in get_args(annotation))})" if get_origin(annotation) is Literal else ""
