"""Finds a request's own fields by a sample: id, deadline, candidates, ad id. Pure."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from streamer.errors import ConfigError, shown
from streamer.features.paths import MAX_STEPS, getter

_REQUEST_IDS = ("request_id", "requestId", "id", "auction_id", "auctionId", "auction", "bid_id", "bidId", "reqid")
_DEADLINES = ("deadline_ms", "tmax", "timeout_ms", "timeoutMs", "timeout")
_CANDIDATES = ("candidates", "ads", "creatives", "items", "bids")
_AD_IDS = (
    *("ad_id", "adId", "adid", "creative_id", "creativeId", "creative", "crid", "item_id", "itemId"),
    *("ad.id", "creative.id", "ad", "id"),
)
_MOST = 0.9
_SYNTAX = frozenset('.[]"\\')
# In OpenRTB these lists have ids and are no candidates.
_NO_CANDIDATES = frozenset({"imp", "data", "deals", "segment", "metric"})

Document = Mapping[str, object]


@dataclass(frozen=True, slots=True)
class RequestForm:
    """Where a request has its own fields.

    Attributes:
        request_id, deadline_ms: paths; None: the documents have none.
        candidates, ad_id: paths of the candidates and, in one of them, of its id; None: the sample has no candidates.
        is_openrtb: `imp` describes the slots of an auction; the first one is scored.
    """

    request_id: str | None
    deadline_ms: str | None
    candidates: str | None
    ad_id: str | None
    is_openrtb: bool

    def rows(self, document: Document, where: str) -> list[Document]:
        """The candidates of a request, one object each, also of columns.

        Raises:
            ConfigError: they have another form, or one of them has no ad id; names the field. `where` is file and line.
        """
        if self.candidates is None or self.ad_id is None:
            return []
        found = getter(self.candidates)(document)
        if isinstance(found, list):
            rows = found
        elif isinstance(found, dict):
            rows = _of_columns(found, f"{where}: {self.candidates}", getter(self.ad_id)(found))
        else:
            got = shown(found, 40)
            raise ConfigError(f"{where}: {self.candidates}: expected a list of objects or columns, got {got}")
        get = getter(self.ad_id)
        for i, row in enumerate(rows):
            place = f"{where}: {self.candidates}[{i}]"
            if not isinstance(row, dict):
                raise ConfigError(f"{place}: expected an object, got {shown(row, 40)}")
            ad_id = get(row)
            if not isinstance(ad_id, str) or not ad_id:
                got = shown(ad_id, 40)
                raise ConfigError(f"{place}.{self.ad_id}: expected a non-empty string, the ad's id, got {got}")
        return rows


def can_be_named(key: str) -> bool:
    """Whether a path can have this key."""
    return key not in ("", "*") and not _SYNTAX & set(key) and key.isprintable()


def form_of(documents: Sequence[Document]) -> RequestForm:
    """The form that at least 90 % of these requests have."""
    candidates, ad_id = next(_candidates(documents), (None, None))
    is_openrtb = _most(isinstance(document.get("imp"), list) for document in documents)
    request_id = _first(_REQUEST_IDS, documents, _MOST, lambda value: isinstance(value, str) and value != "")
    deadline = _first(_DEADLINES, documents, 0.0, lambda value: type(value) in (int, float))
    return RequestForm(request_id, deadline, candidates, ad_id, is_openrtb)


def _most(fits: Iterable[bool], share: float = _MOST) -> bool:
    """Whether at least this share of them, and one, is true."""
    found = list(fits)
    return sum(found) >= max(1, share * len(found))


def _first(
    names: Sequence[str], documents: Sequence[Document], share: float, fits: Callable[[object], bool]
) -> str | None:
    """The first name whose value fits in this share of the documents."""
    return next((name for name in names if _most((fits(each.get(name)) for each in documents), share)), None)


def _candidates(documents: Sequence[Document]) -> Iterator[tuple[str, str]]:
    """Paths of candidates and of their ad ids, the most probable first."""
    lengths: dict[str, int] = {}
    for document in documents:
        for key, value in filter(_has_a_path, document.items()):
            inner = filter(_has_a_path, value.items()) if isinstance(value, dict) else ()
            for path, each in {key: value, **{f"{key}.{name}": each for name, each in inner}}.items():
                lengths[path] = max(lengths.get(path, 0), len(each) if isinstance(each, list) else 0)
    names = {path: path.rpartition(".")[2] for path in lengths}
    for path in sorted(lengths, key=lambda path: (names[path] not in _CANDIDATES, -lengths[path])):
        if names[path] in _NO_CANDIDATES:
            continue
        for ad_id in _AD_IDS:
            is_sure = ad_id != "id" or names[path] in _CANDIDATES
            if is_sure and _most(_has_ids(path, ad_id, each) for each in documents):
                yield path, ad_id


def _has_a_path(item: tuple[str, object]) -> bool:
    return can_be_named(item[0])


def _has_ids(path: str, ad_id: str, document: Document) -> bool:
    found, get = getter(path)(document), getter(ad_id)
    if isinstance(found, list):
        return bool(found) and all(_is_id(get(row)) for row in found)
    ids = get(found)
    return isinstance(ids, list) and bool(ids) and all(map(_is_id, ids))


def _is_id(value: object) -> bool:
    """Also a number: a candidate's id, which is then rejected with its line."""
    return isinstance(value, str | int) and not isinstance(value, bool) and value != ""


def _of_columns(columns: Document, where: str, ids: object, steps: int = MAX_STEPS) -> list[Document]:
    if not steps:
        raise ConfigError(f"{where:.200}: nested too deeply: a path has at most {MAX_STEPS} steps")
    if not isinstance(ids, list):
        raise ConfigError(f"{where}: expected columns with a list of ad ids, got {shown(ids, 40)}")
    rows: list[dict[str, object]] = [{} for _ in ids]
    for key, column in columns.items():
        field = f"{where}.{key}"
        values = column
        if isinstance(column, dict):
            values = _of_columns(column, field, next(iter(column.values()), []), steps - 1)
        if not isinstance(values, list) or len(values) != len(rows):
            got = f"{len(values)} values" if isinstance(values, list) else shown(values, 40)
            raise ConfigError(f"{field}: expected a list with one value for each of {len(rows)} ads, got {got}")
        for row, value in zip(rows, values, strict=True):
            row[key] = value
    return list(rows)
