"""JSON of requests as RapidJSON reads it: what it accepts, and its error texts. Pure.

orjson reads a body that it accepts. Otherwise a slower reader gives the value of what only RapidJSON accepts (NaN,
text after the value, bytes that are not UTF-8), or its error.
"""

import math
import re
from typing import Any

import orjson

from sandbox.model_server.rest_text import json_text
from sandbox.model_server.status import StatusError, invalid_argument

_SPACE = re.compile(rb"[ \t\r\n]*")
_NUMBER = re.compile(rb"-?(?:0|[1-9][0-9]*)(\.[0-9]+)?([eE][+-]?[0-9]+)?")
_PLAIN = re.compile(rb'[^"\\\x00-\x1f]*')
_HEX = re.compile(rb"[0-9a-fA-F]{4}")
_ESCAPES = {b'"': '"', b"\\": "\\", b"/": "/", b"b": "\b", b"f": "\f", b"n": "\n", b"r": "\r", b"t": "\t"}
_WORDS: tuple[tuple[bytes, object], ...] = ((b"null", None), (b"true", True), (b"false", False))
_BYTE_ORDER_MARK = b"\xef\xbb\xbf"
# Keys of which the first counts, if they occur twice; of other keys the last counts.
_KEYS = (b'"signature_name"', b'"instances"', b'"inputs"', b'"examples"', b'"context"')
_UINT64_MAX = 2**64 - 1
_INT64_MIN = -(2**63)
_FIRST_DOUBLE = 1e20


def parse(body: bytes) -> dict[str, Any]:
    """The object in a body. Raises `StatusError`.

    Texts keep bytes that are not UTF-8 as surrogates.
    """
    if not body:
        raise invalid_argument("JSON Parse error: The document is empty")
    value: Any
    try:
        value = orjson.loads(body)
        if _may_repeat(body, value):
            value = _Reader(body).document()
    except orjson.JSONDecodeError:
        value = _Reader(body).document()
    if not isinstance(value, dict):
        raise invalid_argument(f"JSON Value: {json_text(value)} Is not object")
    return value


def _may_repeat(body: bytes, value: object) -> bool:
    """Whether an object may have one of `_KEYS` twice; a model can have an input of such a name."""
    doubtful = [key for key in _KEYS if body.count(key) > 1]
    if not doubtful:
        return False
    try:
        written = orjson.dumps(value)
    except orjson.JSONEncodeError:  # nested more deeply than orjson writes
        return True
    return b"\\u" in body or any(body.count(key) != written.count(key) for key in doubtful)


class _Reader:
    """Reads one value from the start of a body; `at` is the offset of the next byte."""

    def __init__(self, body: bytes) -> None:
        self.body = body
        self.at = len(_BYTE_ORDER_MARK) if body.startswith(_BYTE_ORDER_MARK) else 0

    def document(self) -> object:
        self._skip_space()
        if self.at == len(self.body):
            raise self._error("The document is empty.")
        try:
            return self._value()
        except RecursionError:
            raise self._error("Lists are nested too deeply.") from None

    def _value(self) -> object:
        match self._peek():
            case b"{":
                return self._object()
            case b"[":
                return self._array()
            case b'"':
                return self._string()
        for word, value in _WORDS:
            if self._peek() == word[:1]:
                self._expect(word)
                return value
        return self._number()

    def _object(self) -> dict[str, object]:
        found: dict[str, object] = {}
        self.at += 1
        self._skip_space()
        if self._took(b"}"):
            return found
        while True:
            if self._peek() != b'"':
                raise self._error("Missing a name for object member.")
            name = self._string()
            self._skip_space()
            if not self._took(b":"):
                raise self._error("Missing a colon after a name of object member.")
            self._skip_space()
            found.setdefault(name, self._value())
            self._skip_space()
            if self._took(b"}"):
                return found
            if not self._took(b","):
                raise self._error("Missing a comma or '}' after an object member.")
            self._skip_space()

    def _array(self) -> list[object]:
        found: list[object] = []
        self.at += 1
        self._skip_space()
        if self._took(b"]"):
            return found
        while True:
            found.append(self._value())
            self._skip_space()
            if self._took(b"]"):
                return found
            if not self._took(b","):
                raise self._error("Missing a comma or ']' after an array element.")
            self._skip_space()

    def _string(self) -> str:
        pieces: list[str] = []
        self.at += 1
        while True:
            end = _end(_PLAIN, self.body, self.at)
            pieces.append(self.body[self.at : end].decode("utf-8", "surrogateescape"))
            self.at = end
            if self._took(b'"'):
                return "".join(pieces)
            if self._peek() == b"\\":
                pieces.append(self._escape())
            elif self._peek() in {b"", b"\0"}:
                raise self._error("Missing a closing quotation mark in string.")
            else:
                raise self._error("Invalid encoding in string.")

    def _escape(self) -> str:
        start = self.at
        self.at += 2
        letter = self.body[start + 1 : self.at]
        if letter in _ESCAPES:
            return _ESCAPES[letter]
        if letter != b"u":
            raise self._error("Invalid escape character in string.", start)
        code = self._hex(start)
        if 0xD800 <= code <= 0xDFFF:
            if code > 0xDBFF or self.body[self.at : self.at + 2] != b"\\u":
                raise self._error("The surrogate pair in string is invalid.", start)
            self.at += 2
            low = self._hex(start)
            if not 0xDC00 <= low <= 0xDFFF:
                raise self._error("The surrogate pair in string is invalid.", start)
            code = ((code - 0xD800) << 10 | low - 0xDC00) + 0x10000
        return chr(code)

    def _hex(self, start: int) -> int:
        digits = _HEX.match(self.body, self.at)
        if digits is None:
            raise self._error("Incorrect hex digit after \\u escape in string.", start)
        self.at += 4
        return int(digits[0], 16)

    def _number(self) -> float:
        start = self.at
        found = _NUMBER.match(self.body, start)
        if found is None:
            sign = -1.0 if self._took(b"-") else 1.0
            if self._peek() == b"N":
                self._expect(b"NaN")
                return math.nan
            if self._peek() == b"I":
                self._expect(b"Inf")
                if self._peek() == b"i":
                    self._expect(b"inity")
                return sign * math.inf
            raise self._error("Invalid value.")
        self.at = found.end()
        fraction, exponent = found[1], found[2]
        if not exponent and self._peek() == b"." and not fraction:
            self.at += 1
            raise self._error("Miss fraction part in number.")
        if not exponent and self._peek() in {b"e", b"E"}:
            self.at += 1
            if not self._took(b"+"):
                self._took(b"-")
            raise self._error("Miss exponent in number.")
        value = float(found[0])
        if not fraction and not exponent and abs(value) < _FIRST_DOUBLE:
            whole = int(found[0])
            if _INT64_MIN <= whole <= _UINT64_MAX:
                return whole
        if math.isinf(value):
            raise self._error("Number too big to be stored in double.", start)
        return value

    def _expect(self, word: bytes) -> None:
        for letter in word:
            if not self._took(bytes((letter,))):
                raise self._error("Invalid value.")

    def _peek(self) -> bytes:
        return self.body[self.at : self.at + 1]

    def _took(self, letter: bytes) -> bool:
        found = self._peek() == letter
        self.at += found
        return found

    def _skip_space(self) -> None:
        self.at = _end(_SPACE, self.body, self.at)

    def _error(self, text: str, at: int | None = None) -> StatusError:
        return invalid_argument(f"JSON Parse error: {text} at offset: {self.at if at is None else at}")


def _end(pattern: re.Pattern[bytes], body: bytes, at: int) -> int:
    found = pattern.match(body, at)
    return at if found is None else found.end()
