"""Whether a schema of another program means the same as the own one. Pure.

Protobuf reads messages by the numbers of their fields. Fields that only one of the schemas has are compatible.
"""

from streamer.formats.proto_schema import Field, Fields, ProtoSchema, own_schema

REQUEST = "BidRequest"
ANSWER = "Scores"
# `BidRequest.candidates` has serialised Candidates; its type does not show that.
_INSIDE = {REQUEST: ("Candidate",), ANSWER: ()}


def incompatible(message: str, theirs: ProtoSchema) -> str | None:
    """The first field of `message`, or of one in it, that differs; None if none does."""
    if message not in theirs.messages:
        return f"{message}: the schema has no such message"
    checked: set[tuple[str, str]] = set()
    for name in (message, *_INSIDE[message]):
        if name in theirs.messages and (found := _compared(name, name, theirs, checked)) is not None:
            return found
    return None


def incompatible_request(theirs: ProtoSchema) -> str | None:
    """As `incompatible` for requests, whose message must be the first one of its schema."""
    found = incompatible(REQUEST, theirs)
    if found is None and theirs.place(REQUEST) != [0]:
        return f"{REQUEST}: not the first message of the schema"
    return found


def _compared(name: str, their_name: str, theirs: ProtoSchema, checked: set[tuple[str, str]]) -> str | None:
    if (name, their_name) in checked:
        return None
    checked.add((name, their_name))
    own, fields = own_schema(), theirs.messages[their_name]
    for number, field in own.messages[name].items():
        where = f"{name}.{field.name}"
        if (their := fields.get(number)) is None:
            if (moved := _number_of(field.name, fields)) is not None:
                return f"{where}: expected number {number}, got {moved}"
            continue
        if their.name != field.name:
            return f"{where}: expected this name for number {number}, got {their.name!r:.60}"
        expected, got = _shown(field, own), _shown(their, theirs)
        if got is not None and got != expected:
            return f"{where}: expected {expected}, got {got}"
        inner, its = own.message_of(field.type), theirs.message_of(their.type)
        if inner is not None and its is not None and (found := _compared(inner, its, theirs, checked)) is not None:
            return found
    return None


def _number_of(name: str, fields: Fields) -> int | None:
    return next((number for number, field in fields.items() if field.name == name), None)


def _shown(field: Field, schema: ProtoSchema) -> str | None:
    kind = schema.kind_of(field.type)
    return None if kind is None else f"repeated {kind}" if field.is_repeated else kind
