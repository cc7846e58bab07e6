"""Reads the fields of the messages in a Protobuf schema. Pure.

Registries have schemas as text, or as a serialised `FileDescriptorProto` in base64.
"""

import base64
import binascii
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import Final

from google.protobuf.descriptor_pb2 import DescriptorProto, FieldDescriptorProto, FileDescriptorProto
from google.protobuf.message import DecodeError

from streamer.formats.ctr_pb2 import DESCRIPTOR

_MAX_CHARS = 2**20
_MAX_DEPTH = 32
_SCALARS = frozenset(
    {"double", "float", "int32", "int64", "uint32", "uint64", "sint32", "sint64", "fixed32", "fixed64", "sfixed32"}
    | {"sfixed64", "bool", "string", "bytes"}
)
_IGNORED = re.compile(r"""("(?:\\.|[^"\\])*"|'(?:\\.|[^'\\])*')|//[^\n]*|/\*.*?\*/""", re.DOTALL)
_TOKEN = re.compile(r"""\s*("(?:\\.|[^"\\])*"|'(?:\\.|[^'\\])*'|\.?[A-Za-z_][\w.]*|[-+]?[\d][\w.]*|\S)""")
_STATEMENTS = frozenset({"syntax", "edition", "package", "import", "option", "reserved", "extensions"})
_LABELS = frozenset({"optional", "required", "repeated"})


@dataclass(frozen=True, slots=True)
class Field:
    """A field; `type` is a scalar type, or the name of a message or an enum."""

    name: str
    type: str
    is_repeated: bool


Fields = Mapping[int, Field]


@dataclass(slots=True)
class ProtoSchema:
    """A schema's messages and enums by name, such as `Outer.Inner`, without the package.

    Attributes:
        messages: the fields of each message by their number, in the order of the file.
    """

    messages: dict[str, dict[int, Field]] = field(default_factory=dict)
    enums: set[str] = field(default_factory=set)

    def place(self, message: str) -> list[int] | None:
        """The indexes of a message of the top level; None if there is no such message."""
        top = [name for name in self.messages if "." not in name]
        return [top.index(message)] if message in top else None

    def message_of(self, field_type: str) -> str | None:
        """The message that a field's type names; None if it is none of this schema."""
        if field_type in _SCALARS:
            return None
        parts = field_type.lstrip(".").split(".")
        return next((".".join(parts[i:]) for i in range(len(parts)) if ".".join(parts[i:]) in self.messages), None)

    def kind_of(self, field_type: str) -> str | None:
        """`message`, `enum` or the scalar type; None for a type of another file."""
        if field_type in _SCALARS or field_type == "map":
            return field_type
        if self.message_of(field_type) is not None:
            return "message"
        return "enum" if field_type.rpartition(".")[2] in {name.rpartition(".")[2] for name in self.enums} else None


def read_schema(text: str) -> ProtoSchema:
    """Reads a schema in one of its two forms.

    Raises:
        ValueError: it cannot be read.
    """
    if len(text) > _MAX_CHARS:
        raise ValueError(f"a schema of {len(text)} characters, more than {_MAX_CHARS}")
    try:
        descriptor = FileDescriptorProto.FromString(base64.b64decode(text, validate=True))
    except (binascii.Error, ValueError, DecodeError):
        return _Parser(text).schema()
    if not descriptor.message_type:
        raise ValueError("not a Protobuf schema: it has no message")
    schema = ProtoSchema()
    for message in descriptor.message_type:
        _add(schema, message, "")
    schema.enums.update(enum.name for enum in descriptor.enum_type)
    return schema


OWN: Final = base64.b64encode(DESCRIPTOR.serialized_pb).decode()
"""The schema of `ctr.proto` as it is registered. Confluent's deserialiser for Python reads no text."""


@cache
def own_schema() -> ProtoSchema:
    """The schema that this version reads and writes."""
    return read_schema(OWN)


def _add(schema: ProtoSchema, message: DescriptorProto, outer: str) -> None:
    name = outer + message.name
    kinds = {number: kind.removeprefix("TYPE_").lower() for kind, number in FieldDescriptorProto.Type.items()}
    schema.messages[name] = {
        found.number: Field(
            found.name, found.type_name or kinds[found.type], found.label == FieldDescriptorProto.LABEL_REPEATED
        )
        for found in message.field
    }
    schema.enums.update(f"{name}.{enum.name}" for enum in message.enum_type)
    for inner in message.nested_type:
        _add(schema, inner, f"{name}.")


class _Parser:
    """Reads messages, fields and enums of a text, and skips everything else."""

    def __init__(self, text: str) -> None:
        self._tokens: Iterator[str] = (
            found[1] for found in _TOKEN.finditer(_IGNORED.sub(lambda found: found[1] or " ", text))
        )
        self._schema = ProtoSchema()

    def schema(self) -> ProtoSchema:
        while (word := next(self._tokens, None)) is not None:
            self._statement(word, "")
        if not self._schema.messages:
            raise ValueError("not a Protobuf schema: it has no message")
        return self._schema

    def _next(self) -> str:
        word = next(self._tokens, None)
        if word is None:
            raise ValueError("not a Protobuf schema: it ends within a statement")
        return word

    def _statement(self, word: str, outer: str) -> None:
        """Reads a statement of the top level, or of the message `outer`."""
        if word == ";":
            return
        if word in _STATEMENTS:
            self._skip(";")
        elif word == "message":
            name = outer + ("." if outer else "") + self._next()
            self._schema.messages[name] = {}
            self._block(name)
        elif word == "enum":
            self._schema.enums.add(outer + ("." if outer else "") + self._next())
            self._skip("}")
        elif word == "oneof" and outer:
            self._next()
            self._block(outer)
        elif word in {"service", "extend", "group"} or not outer:
            self._skip("}")
        else:
            self._field(word, outer)

    def _block(self, name: str) -> None:
        if self._next() != "{" or name.count(".") > _MAX_DEPTH:
            raise ValueError(f"not a Protobuf schema: expected {{ after {name!r:.60}")
        while (word := self._next()) != "}":
            self._statement(word, name)

    def _field(self, word: str, outer: str) -> None:
        is_repeated = word == "repeated"
        kind = self._next() if word in _LABELS else word
        if kind == "map":
            self._skip(">")
            is_repeated = True
        name, equals, number = self._next(), self._next(), self._next()
        if equals != "=" or not number.isdecimal():
            raise ValueError(f"not a Protobuf schema: {outer}.{name!s:.60}: expected = and a number")
        self._schema.messages[outer][int(number)] = Field(name, kind, is_repeated)
        self._skip(";")

    def _skip(self, end: str) -> None:
        """Skips to `end` outside of any block that begins on the way."""
        depth = 0
        while True:
            word = self._next()
            depth += (word == "{") - (word == "}")
            if word == end and depth == 0:
                return
