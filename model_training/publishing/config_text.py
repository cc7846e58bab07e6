"""Sets a label in the text of a model config file, and changes nothing else; pure."""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field

from google.protobuf import text_format
from tensorflow_serving.config.model_server_config_pb2 import ModelConfig

_TOKEN = re.compile(
    r"""(?P<skip>\s+|\#[^\n]*|[;,:])|(?P<open>[{<])|(?P<close>[}>])|(?P<list>[\[\]])"""
    r"""|(?P<string>"(?:\\.|[^"\\\n])*"|'(?:\\.|[^'\\\n])*')|(?P<word>[^\s{}<>\[\]:;,"'#]+)"""
)


@dataclass(slots=True)
class _Message:
    """A message of the text.

    Attributes:
        start, end: the positions of its opening bracket, and behind its closing one.
        messages: the messages in it with the names of their fields, in their order; those of a list count as repeated.
        values: the positions of the last scalar of each field.
    """

    start: int
    end: int = 0
    messages: list[tuple[str, "_Message"]] = field(default_factory=list)
    values: dict[str, tuple[int, int]] = field(default_factory=dict)

    def all(self, name: str) -> Iterator["_Message"]:
        return (message for known, message in self.messages if known == name)


def set_in_text(text: str, position: int, label: str, version: int) -> str | None:
    """The text with `label` set in the model at this position; None if that place is not found.

    The caller parses the result: this function reads only what it needs of the text format.
    """
    root = _read(text)
    models = [model for models in root.all("model_config_list") for model in models.all("config")] if root else []
    if position >= len(models):
        return None
    model = models[position]
    entry = text_format.MessageToString(ModelConfig(version_labels={label: version}), as_one_line=True).strip()
    same = [at for at in model.all("version_labels") if _key(text[at.start : at.end]) == label]
    if same and "value" in same[-1].values:
        start, end = same[-1].values["value"]
        return f"{text[:start]}{version}{text[end:]}"
    if same:
        return f"{text[: same[-1].end - 1]} value: {version} {text[same[-1].end - 1 :]}"
    close = model.end - 1
    line = text.rfind("\n", 0, close) + 1
    indent = text[line:close]
    if not indent.strip() and line:
        newline = "\r\n" if text[line - 2 : line] == "\r\n" else "\n"
        return f"{text[:line]}{indent}  {entry}{newline}{text[line:]}"
    return f"{text[:close].rstrip(' ')} {entry} {text[close:]}"


def _key(entry: str) -> str | None:
    """The label of an entry of `version_labels`, `{ key: "stable" value: 7 }`."""
    return next(iter(text_format.Parse(f"version_labels {entry}", ModelConfig()).version_labels), None)


def _read(text: str) -> _Message | None:
    """The messages of a text that text_format can parse; None if they cannot be told apart."""
    open_messages = [_Message(0)]
    names = [""]
    at = 0
    while at < len(text):
        match = _TOKEN.match(text, at)
        if match is None:
            return None
        at = match.end()
        inner = open_messages[-1]
        match match.lastgroup:
            case "open":
                message = _Message(match.start())
                inner.messages.append((names[-1], message))
                open_messages.append(message)
                names.append("")
            case "close":
                if len(open_messages) == 1:
                    return None
                open_messages.pop().end = at
                names.pop()
            case "word" if _is_name(text, at):
                names[-1] = match.group()
            case "word" | "string":
                inner.values[names[-1]] = match.span()
            case _:
                pass
    return open_messages[0] if len(open_messages) == 1 else None


def _is_name(text: str, at: int) -> bool:
    """Whether a word that ends here is the name of a field: a colon or a message follows."""
    return re.compile(r"(\s|#[^\n]*\n)*(:|[{<])").match(text, at) is not None
