"""Vocabulary files: one word a line, named by a spec file, which then holds the words."""

from pathlib import Path

from streamer.errors import SpecError

_MAX_BYTES = 32 * 2**20
_MAX_WORDS = 1_000_000


def with_vocabularies(content: object, spec_file: Path) -> object:
    """The content of a spec file, with the words of each `vocabulary_file` as `vocabulary`.

    Paths are relative to the spec file.

    Raises:
        SpecError: naming spec file, feature, vocabulary file and line.
    """
    features = content.get("features") if isinstance(content, dict) else None
    if not isinstance(features, list) or not any(isinstance(f, dict) and "vocabulary_file" in f for f in features):
        return content
    return {**content, "features": [_with_words(feature, spec_file) for feature in features]}  # type: ignore[dict-item]


def _with_words(feature: object, spec_file: Path) -> object:
    if not isinstance(feature, dict) or "vocabulary_file" not in feature:
        return feature
    where = f"{spec_file}: feature {feature.get('name')!r}.vocabulary_file"
    if "vocabulary" in feature:
        raise SpecError(f"{where}: give either a vocabulary or a vocabulary_file")
    name = feature["vocabulary_file"]
    if not isinstance(name, str) or not name:
        raise SpecError(f"{where}: expected a path (got {name!r:.100})")
    try:
        words = read_words(spec_file.parent / name)
    except SpecError as error:
        raise SpecError(f"{where}: {error}") from None
    others = {key: value for key, value in feature.items() if key != "vocabulary_file"}
    return {**others, "vocabulary": words}


def read_words(path: Path) -> list[str]:
    """The lines of a file; an empty line is the empty word, as in TensorFlow's tables.

    Raises:
        SpecError: naming the file, and the line: it is no UTF-8 or occurs twice; there are more than 1,000,000 lines or
            32 MiB, or none.
    """
    try:
        with path.open("rb") as file:
            data = file.read(_MAX_BYTES + 1)
    except OSError as error:
        raise SpecError(f"{path}: cannot be read: {error.strerror}") from error
    if len(data) > _MAX_BYTES:
        raise SpecError(f"{path}: more than {_MAX_BYTES} bytes")
    # TensorFlow ignores carriage returns.
    lines = data.replace(b"\r", b"").removesuffix(b"\n").split(b"\n") if data else []
    if not 0 < len(lines) <= _MAX_WORDS:
        raise SpecError(f"{path}: {len(lines)} lines, expected 1 to {_MAX_WORDS}")
    words: dict[str, int] = {}
    for number, line in enumerate(lines, 1):
        try:
            first = words.setdefault(line.decode(), number)
        except UnicodeDecodeError:
            raise SpecError(f"{path}: line {number}: not UTF-8") from None
        if first != number:
            raise SpecError(f"{path}: line {number}: {line.decode()!r:.100} is line {first} already")
    return list(words)
