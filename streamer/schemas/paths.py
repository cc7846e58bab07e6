"""The schema of a document from the paths that a feature spec reads. Pure."""

from collections.abc import Iterable
from dataclasses import dataclass, field

from streamer.features.paths import parse_path

Schema = dict[str, object]


@dataclass(slots=True)
class PathTree:
    """The values of a document by their paths.

    Attributes:
        types: JSON types of a value that ends here.
        words: other keywords of its schema.
        is_required: whether its key must be there.
    """

    types: set[str] = field(default_factory=set)
    words: Schema = field(default_factory=dict)
    is_required: bool = False
    keys: dict[str, "PathTree"] = field(default_factory=dict)
    places: dict[int, "PathTree"] = field(default_factory=dict)
    every: "PathTree | None" = None

    def _at(self, path: str, *, is_required: bool) -> "PathTree":
        """The node at a path; it and the nodes on the way to it are created."""
        node = self
        for step in parse_path(path):
            if step == "*":
                node.every = node.every or PathTree()
                node = node.every
            elif isinstance(step, int):
                node = node.places.setdefault(step, PathTree())
            else:
                node = node.keys.setdefault(step, PathTree())
            node.is_required |= is_required
        return node

    def add(self, path: str, types: Iterable[str], words: Schema, *, is_required: bool = False) -> None:
        """Adds a value. Of two values at one path both types count, and the words of the first."""
        node = self._at(path, is_required=is_required)
        node.types.update(types)
        node.words = {**words, **node.words}

    def schema(self) -> Schema:
        """The schema of a document. A value that is not required may be null: it counts as missing."""
        types, words = set(self.types), dict(self.words)
        if self.keys:
            types.add("object")
            words["properties"] = {key: node.schema() for key, node in self.keys.items()}
            if required := [key for key, node in self.keys.items() if node.is_required]:
                words["required"] = required
        if self.places:
            types.add("array")
            last = max(self.places)
            words["prefixItems"] = [self.places[i].schema() if i in self.places else True for i in range(last + 1)]
        if self.every is not None:
            types.add("array")
            words["items"] = self.every.schema()
        return self._typed(types, words)

    def columns(self, most: int) -> Schema:
        """The schema of candidates in columns, of at most `most` candidates."""
        return {"type": "object", **self._by_key(most), "additionalProperties": {"type": ["array", "object"]}}

    def column(self, most: int) -> Schema:
        """The schema of a column: a list at the last key of its path, or at a key before it."""
        words: Schema = {"items": self.schema()}
        if self.is_required:
            words |= {"minItems": 1, "maxItems": most}
        if not self.keys:
            return {"type": "array", **words}
        return {"type": ["array", "object"], **words, **self._by_key(most)}

    def _by_key(self, most: int) -> Schema:
        words: Schema = {"properties": {key: node.column(most) for key, node in self.keys.items()}}
        if required := [key for key, node in self.keys.items() if node.is_required]:
            words["required"] = required
        return words

    def _typed(self, types: set[str], words: Schema) -> Schema:
        if not types:
            return words
        ordered = sorted(types) + ([] if self.is_required else ["null"])
        return {"type": ordered if len(ordered) > 1 else ordered[0], **words}
