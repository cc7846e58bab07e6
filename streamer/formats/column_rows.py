"""Turns columns of JSON into rows, without reading a value of a known ad."""

from collections.abc import Mapping

import msgspec
import orjson
import xxhash

from streamer.features.paths import parse_path
from streamer.formats.candidates import Candidates
from streamer.formats.column_cutter import ColumnCutter, column_cutter

_MAX_SHAPES = 16
_FEWEST_BY_ID = 5


class ColumnRows:
    """The rows of columns: the texts of an ad's values, joined by commas.

    Invariant: the object of row i has exactly the values i of the columns.
    """

    def __init__(
        self,
        ad_id: str,
        keys: frozenset[str] | None = None,
        *,
        by_id: bool = False,
        cutter: ColumnCutter | None = None,
    ) -> None:
        """`ad_id`: the path of the ad id; `keys`: those of the columns that are read; None: all.

        `by_id`: a table has the values of ads, and few columns are read at once: they differ in each request.
        """
        self._ad_id, *inner = parse_path(ad_id)
        self._is_flat = not inner
        self._fewest = _FEWEST_BY_ID if by_id else 0
        self._keys = None if keys is None else keys | {self._ad_id}
        self._cutter = cutter or column_cutter()
        self._shapes: dict[tuple[str, ...], _Shape] = {}
        self._are_refused = False

    def candidates(self, columns: Mapping[str, msgspec.Raw]) -> Candidates:
        """The rows of columns, or their values if the cutter makes no rows of them.

        Raises:
            ValueError: a column is not valid JSON.
        """
        keys = self._keys
        texts = {key: bytes(text) for key, text in columns.items() if keys is None or key in keys}
        are_refused, self._are_refused = self._are_refused, False
        if (
            not are_refused
            and self._is_flat
            and len(texts) >= self._fewest
            and self._ad_id in texts
            and (found := self._rows(texts)) is not None
        ):
            return found
        values: dict[str, object] = {}
        for key, text in texts.items():
            try:
                values[key] = msgspec.json.decode(text)
            except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
                raise ValueError(f"{key}: not valid JSON: {error}") from None
        return Candidates(columns=values)

    def unparsed(self, columns: Mapping[str, bytes]) -> Candidates | None:
        """The rows of columns that may be no JSON; if their values are plain, they are.

        It needs a compiled cutter. None: a parser must read the columns; `candidates` gets the same ones next.
        """
        if not self._is_flat or self._ad_id not in columns:
            return None
        if self._keys is not None and not self._keys.issuperset(columns):
            return None  # no cutter looks at a column that is not read
        found = self._rows(columns)
        self._are_refused = found is None
        return found

    def _rows(self, columns: Mapping[str, bytes]) -> Candidates | None:
        names = tuple(columns)
        shape = self._shapes.get(names)
        if shape is None:
            if len(self._shapes) >= _MAX_SHAPES:
                self._shapes = {}
            shape = self._shapes[names] = _Shape(names)
        rows = self._cutter.rows(shape.prefix, list(columns.values()), names.index(self._ad_id))
        return None if rows is None else Candidates(rows, shape.read)


class _Shape:
    """An order of columns. `prefix`: of its rows; 17 bytes. No JSON begins with the first one."""

    def __init__(self, names: tuple[str, ...]) -> None:
        self._names = names
        self.prefix = b"\1" + xxhash.xxh3_128_digest(repr(names).encode(errors="surrogatepass"))

    def read(self, row: bytes) -> object:
        """The candidate of a row.

        Raises:
            ValueError: a part of the row is no JSON value; otherwise it has one value for each column.
        """
        try:
            values = orjson.loads(b"[%b]" % row[len(self.prefix) :])
        except orjson.JSONDecodeError:
            values = ()
        if len(values) != len(self._names):
            raise ValueError("expected columns with one valid value for each ad id")
        return dict(zip(self._names, values, strict=True))
