"""Kinds of features that a model of another project reads as values, not as table rows.

Each value becomes a text or an integer, and nothing is standardised. They are only for inputs in `serving`.
"""

from collections.abc import Sequence
from typing import Annotated, Literal, Self

from pydantic import BeforeValidator, Field, model_validator

from streamer.features.hashing import canonical
from streamer.features.kinds import _Scalar

_MAX_VALUES = 1024
_INT64 = 2**63
_MAX_UNKNOWN = 2**62  # with the vocabulary, still an int64


def _text(value: object) -> object:
    """The text of a word that YAML reads as a number, 18. A boolean, `yes`, stays one."""
    return canonical(value) if isinstance(value, int | float) and not isinstance(value, bool) else value


def _texts(values: object) -> object:
    return tuple(map(_text, values)) if isinstance(values, Sequence) and not isinstance(values, str) else values


Text_ = Annotated[str, BeforeValidator(_text)]
_Word64 = Annotated[int, Field(ge=0, lt=2**64)]


class _Raw(_Scalar):
    """A value, or with `max_values` a list of them.

    `default` replaces a missing value, and fills the free places of a list. In a `tf.Example`, a feature without
    a `default` has only the values that are present.
    """

    max_values: int | None = Field(default=None, ge=1, le=_MAX_VALUES)

    @property
    def width(self) -> int:
        """Values in a row."""
        return self.max_values or 1


class Text(_Raw):
    """A text as in the document. A missing one is `default`, else the empty string."""

    kind: Literal["text"]
    default: Text_ | None = None


class Integer(_Raw):
    """A whole number in [`min`, `max`]. Any other value is missing: `default`, else 0."""

    kind: Literal["integer"]
    default: int | None = Field(default=None, ge=-_INT64, lt=_INT64)
    min: int = Field(default=-_INT64, ge=-_INT64, lt=_INT64)
    max: int = Field(default=_INT64 - 1, ge=-_INT64, lt=_INT64)

    @model_validator(mode="after")
    def _rising(self) -> Self:
        if self.min > self.max:
            raise ValueError(f"min: {self.min} is above max, {self.max}")
        return self


class Hashing(_Raw):
    """A bucket of a text, as Keras's `Hashing` and `tf.strings.to_hash_bucket_…` compute it.

    Attributes:
        num_bins: buckets, including that of `mask_value`.
        mask_value: the text that has bucket 0; the others then have buckets from 1.
        salt: the key of the strong hash; one number stands for two equal ones. None: the fast hash.
        default: the text of a missing value; None: `mask_value`, else the empty string.
    """

    kind: Literal["hashing"]
    num_bins: int = Field(ge=1, lt=_INT64)
    mask_value: Text_ | None = None
    salt: _Word64 | tuple[_Word64, _Word64] | None = None
    default: Text_ | None = None


class Lookup(_Raw):
    """The number of a word, as Keras's lookup layers and TensorFlow's tables compute it.

    With `num_oov_indices` the numbers are Keras's: 0 for `mask_token` if there is one, then those of unknown words,
    then the vocabulary. Otherwise they are TensorFlow's: the vocabulary from 0, then `num_oov_buckets` for unknown
    words, or without buckets `default_value`.

    Attributes:
        dtype: of the words. Integers are compared as numbers, and Keras spreads unknown ones by their remainder.
        salt: as in `Hashing`, for more than one number of unknown words.
        default: the word of a missing value; None: `mask_token`, else the empty string.
    """

    kind: Literal["lookup"]
    vocabulary: Annotated[tuple[str, ...], BeforeValidator(_texts), Field(min_length=1)]
    dtype: Literal["string", "int64"] = "string"
    num_oov_indices: int | None = Field(default=None, ge=1, le=_MAX_UNKNOWN)
    mask_token: Text_ | None = None
    salt: _Word64 | tuple[_Word64, _Word64] | None = None
    num_oov_buckets: int = Field(default=0, ge=0, le=_MAX_UNKNOWN)
    default_value: int = Field(default=-1, ge=-_INT64, lt=_INT64)
    default: Text_ | None = None

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if len(set(self.vocabulary)) != len(self.vocabulary):
            raise ValueError("vocabulary: a word occurs twice")
        if self.num_oov_indices is None and (self.mask_token is not None or self.salt is not None):
            raise ValueError("mask_token and salt are Keras's: give num_oov_indices too")
        if self.num_oov_indices is not None and self._has_special_tokens():
            raise ValueError("vocabulary: it has Keras's special tokens: get_vocabulary(include_special_tokens=False)")
        if self.num_oov_indices is not None and self.num_oov_buckets:
            raise ValueError("num_oov_indices is Keras's, num_oov_buckets TensorFlow's: give one of them")
        if self.dtype == "int64":
            words = [*self.vocabulary, *(w for w in (self.mask_token, self.default) if w is not None)]
            if wrong := next((word for word in words if not _is_integer(word)), None):
                raise ValueError(f"vocabulary: {wrong!r:.100} is no integer, but dtype is int64")
            if self.mask_token is None and self.default is None:
                raise ValueError("default: with dtype int64 and no mask_token, give the number of a missing value")
        return self

    def _has_special_tokens(self) -> bool:
        """Whether the words begin as those of Keras's `get_vocabulary()` do.

        Keras rejects a mask token among them, too.
        """
        first_unknown = "-1" if self.dtype == "int64" else "[UNK]"
        return self.vocabulary[0] == first_unknown or self.mask_token in self.vocabulary


def _is_integer(word: str) -> bool:
    return word.removeprefix("-").isdecimal() and str(int(word)) == word and -_INT64 <= int(word) < _INT64


RawFeature = Text | Integer | Hashing | Lookup
