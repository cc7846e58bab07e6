"""All settings as Markdown: the content of `docs/settings.md`."""

import ast
import inspect
import json
from itertools import pairwise
from typing import Literal, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from streamer.settings.loading import Settings
from streamer.settings.names import sections_of, variable_of


def settings_table() -> str:
    """A table for each section: its settings with defaults, descriptions and allowed values."""
    lines = [
        "# Settings",
        "",
        "`streamer settings` writes this page. In the file a setting is under its section. The environment variable",
        "`STREAMER_SECTION__NAME` overrides the file; a list is JSON, or its items are separated by commas.",
    ]
    for section, owner in sections_of(Settings).items():
        lines += ["", f"## {section}", "", owner.__doc__ or "", "", "| setting | default | meaning |", "|---|---|---|"]
        texts = descriptions(owner)
        for name, one in owner.model_fields.items():
            values = ", ".join(f"`{value}`" for value in _allowed(one))
            lines.append(f"| `{name}` | `{_default(one)}` | {texts[name]}{f' ({values})' if values else ''} |")
    return "\n".join(lines) + "\n"


def settings_json() -> list[dict[str, object]]:
    """Each setting: name, variable, default, description, allowed values (empty: any)."""
    return [
        {
            "name": f"{section}.{name}",
            "variable": variable_of(f"{section}.{name}"),
            "default": json.loads(_default(one)),
            "description": texts[name],
            "allowed": _allowed(one),
        }
        for section, owner in sections_of(Settings).items()
        for texts in [descriptions(owner)]
        for name, one in owner.model_fields.items()
    ]


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


def _default(setting: FieldInfo) -> str:
    value = setting.default
    return json.dumps(list(value) if isinstance(value, tuple) else value, default=str)


def _allowed(setting: FieldInfo) -> list[object]:
    return list(get_args(setting.annotation)) if get_origin(setting.annotation) is Literal else []
