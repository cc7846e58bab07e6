"""Decodes requests and encodes answers. A bad record becomes a value, not an exception."""

import codecs
import json
import math
from collections.abc import Iterable, Mapping, Sequence

import msgspec
import orjson

from streamer.errors import shown
from streamer.features.candidate_rows import DigestedRows
from streamer.features.hashing import to_float
from streamer.features.paths import column_getter, getter, parse_path
from streamer.formats.answers import encode_binary
from streamer.formats.candidates import Candidates
from streamer.formats.column_rows import ColumnRows
from streamer.formats.content_type import BINARY_TYPE, JSON_TYPE, form_of, with_content_type
from streamer.formats.frames import REQUEST_PLACE, is_framed, unframed
from streamer.formats.json_documents import JsonDocuments
from streamer.formats.json_errors import decode_reason
from streamer.formats.other_types import OtherTypes
from streamer.formats.requests import BinaryRequest, BinaryRequests, document_in
from streamer.formats.row_cutter import DECODE_ERRORS
from streamer.formats.source_column import source_column
from streamer.salvage import find_text
from streamer.settings.sections import AnswerForm, CodecSettings
from streamer.types import BadRecord, BidRequest, Header, RequestPaths, ScoreMessage

REQUEST_ID_HEADER = "request_id"
DEADLINE_HEADER = "deadline_ms"

_SALVAGED_BYTES = 2**16
"""Bytes at the start of a too large record that are searched for its id."""
_HEADER_BYTES = 160
"""What a header takes in memory beside its text."""


class Codec:
    """Decodes requests with their fields at `paths`.

    One pass parses the top-level keys in `document_keys`; those in `containers` must be objects. Candidates stay raw
    bytes, because the encoder memoises rows by these bytes. Only columns in `candidate_keys` are read.
    `by_id`: a table has the values of ads, and requests name them by id.
    `deadline_margin_ms` is subtracted from a deadline in the document, not from one in the headers.
    """

    def __init__(
        self,
        settings: CodecSettings,
        paths: RequestPaths,
        document_keys: frozenset[str],
        containers: frozenset[str],
        deadline_margin_ms: float = 0.0,
        *,
        candidate_keys: frozenset[str] | None = None,
        by_id: bool = False,
    ) -> None:
        self._margin_ms = deadline_margin_ms
        self._settings = settings
        self._other_types = OtherTypes(settings.formats)
        self.paths = paths
        self._request_id = getter(paths.request_id)
        self._id_keys = [step for step in parse_path(paths.request_id) if isinstance(step, str)]
        self._binary = BinaryRequests(settings.max_candidates)
        self._deadline = getter(paths.deadline_ms)
        self._model = getter(paths.model)
        self._candidates = getter(paths.candidates)
        self._ad_ids = column_getter(paths.ad_id)
        top, *deeper = parse_path(paths.candidates)
        self._cut = top if not deeper else None
        self._columns = ColumnRows(paths.ad_id, candidate_keys, by_id=by_id)
        own = {parse_path(p)[0] for p in (paths.request_id, paths.deadline_ms, paths.model)}
        self._documents = JsonDocuments(
            document_keys | own | {top},
            containers,
            self._cut,
            settings.max_candidates,
            None if by_id else self._columns.unparsed,
        )

    def decode(self, value: bytes | None, headers: Sequence[Header]) -> BidRequest | BadRecord:
        """Decodes one record by its content type. The encoder checks the candidates' content."""
        known_id = header_text(headers, REQUEST_ID_HEADER)
        form = form_of(headers)
        if form is not None and is_framed(value):
            try:
                form, value = "binary", unframed(value, "ctr.v1.BidRequest", REQUEST_PLACE)
            except ValueError as error:
                return BadRecord(known_id or self._salvage_id(value), str(error))
        elif form == "json" and value and value.startswith(codecs.BOM_UTF8):
            value = value[len(codecs.BOM_UTF8) :]
        if not value:
            return BadRecord(known_id, "record: empty")
        limit = self._settings.max_record_bytes
        if len(value) > limit:
            reason = f"record: {len(value)} bytes, more than codec.max_record_bytes = {limit}"
            start = value[:_SALVAGED_BYTES]
            return BadRecord(known_id or self._salvage_id(document_in(start) if form == "binary" else start), reason)
        if form is None:
            try:
                value = self._other_types.json_of(value, headers)
            except ValueError as error:
                return BadRecord(known_id or self._salvage_id(value), str(error))
        if form != "binary":
            return self._read(value, None, known_id, headers)
        try:
            binary = self._binary.read(value)
        except ValueError as error:
            return BadRecord(known_id or self._salvage_id(document_in(value)), str(error))
        return self._read(binary.document, binary, known_id, headers)

    def _read(
        self, value: bytes, binary: BinaryRequest | None, known_id: str | None, headers: Sequence[Header]
    ) -> BidRequest | BadRecord:
        """Reads the JSON of a request; of a binary one it has no candidates."""
        try:
            fields, candidates = self._documents.read(value)
        except DECODE_ERRORS as error:
            return BadRecord(known_id or self._salvage_id(value), decode_reason(error, value))
        if self._cut is None:
            candidates = self._candidates(fields)
        request_id = self._request_id(fields)
        if request_id is None:
            request_id = known_id
        if not isinstance(request_id, str) or not request_id:
            reason = f"{self.paths.request_id}: expected a non-empty string, got {shown(request_id)}"
            return BadRecord(known_id, reason)
        try:
            return self._request(request_id, fields, candidates, binary, headers)
        except _RejectedError as error:
            return BadRecord(request_id, str(error))

    def _request(
        self,
        request_id: str,
        fields: Mapping[str, object],
        candidates: object,
        binary: BinaryRequest | None,
        headers: Sequence[Header],
    ) -> BidRequest:
        name = self.paths.candidates
        found, size = self._sized(candidates, binary)
        limit = self._settings.max_candidates
        if size > limit:
            raise _RejectedError(f"{name}: {size} of them, more than codec.max_candidates = {limit}")
        model = self._model(fields)
        if model is not None and not isinstance(model, str):
            raise _RejectedError(f"{self.paths.model}: expected a string, got {shown(model)}")
        deadline_ms = self._milliseconds(self._deadline(fields))
        if deadline_ms is not None:
            deadline_ms = max(0.0, deadline_ms - self._margin_ms)
        else:
            deadline_ms = self._milliseconds(header_text(headers, DEADLINE_HEADER))
        return BidRequest(
            request_id, fields, size, found.rows, found.columns, deadline_ms, model, read_row=found.read_row
        )

    def _sized(self, candidates: object, binary: BinaryRequest | None) -> tuple[Candidates, int]:
        """The candidates and their number, above 0."""
        found, name = self._found(candidates, binary), self.paths.candidates
        if found.rows is not None:
            size = len(found.rows)
        else:
            ad_ids = self._ad_ids(found.columns)
            if not isinstance(ad_ids, list):
                raise _RejectedError(f"{name}.{self.paths.ad_id}: expected a list of ad ids, got {shown(ad_ids)}")
            size = len(ad_ids)
        if not size:
            raise _RejectedError(f"{name}: empty")
        return found, size

    def _found(self, candidates: object, binary: BinaryRequest | None) -> Candidates:
        name = self.paths.candidates
        if binary is not None:
            if candidates is not None:
                raise _RejectedError(f"{name}: expected none in the document of a binary request")
            return binary.candidates
        if isinstance(candidates, DigestedRows):
            return Candidates(candidates)
        if isinstance(candidates, Candidates):
            return candidates
        if isinstance(candidates, list):
            # A decoded list of the top level is raw already. `Raw` is like bytes, without their copy.
            return Candidates(candidates if self._cut is not None else list(map(msgspec.json.encode, candidates)))
        if not isinstance(candidates, dict):
            raise _RejectedError(f"{name}: expected a list of objects or columns, got {shown(candidates)}")
        if self._cut is None:
            return Candidates(columns=candidates)
        try:
            return self._columns.candidates(candidates)
        except ValueError as error:
            raise _RejectedError(f"{name}.{error}") from None

    def _milliseconds(self, value: object) -> float | None:
        if value is None:
            return None
        number = math.nan if isinstance(value, bool) else to_float(value)
        if not 0 < number < math.inf:
            raise _RejectedError(f"{self.paths.deadline_ms}: expected milliseconds above 0, got {shown(value)}")
        return number

    def _salvage_id(self, value: bytes) -> str | None:
        """The request id of a document with a wrong shape or invalid JSON; None if unreadable.

        Python's parser accepts NaN, lone surrogates, huge numbers and UTF-16; a damaged document is searched. An id
        with a lone surrogate counts as unreadable, because no answer can contain it.
        """
        try:
            text = value.decode(json.detect_encoding(value), "surrogateescape")
        except UnicodeError:
            return None
        try:
            found = self._request_id(json.loads(text))
        except (ValueError, RecursionError):
            found = find_text(text, self._id_keys)
        try:
            return found if isinstance(found, str) and found.encode() else None
        except UnicodeError:
            return None


class _RejectedError(Exception):
    """Carries the reason from a field's check to `decode`."""


def unknown_model(name: str, served: Iterable[str]) -> str:
    """The reason of a request that names a model which is not served."""
    return f"model: {name!r:.60} is not served here; {', '.join(map(repr, served))}"


def size_in_memory(key: bytes | None, value: bytes | None, headers: Sequence[Header]) -> int:
    """The bytes that a record takes in memory; headers take many times those of their texts."""
    in_headers = sum(_HEADER_BYTES + len(name) + len(content or b"") for name, content in headers)
    return len(key or b"") + len(value or b"") + in_headers


def header_text(headers: Sequence[Header], name: str) -> str | None:
    """The text of a record header; None if the header is missing, empty or not UTF-8."""
    for key, value in headers:
        if key == name and value:
            try:
                return value.decode()
            except UnicodeDecodeError:
                return None
    return None


def header_milliseconds(headers: Sequence[Header]) -> float | None:
    """The budget in a record's headers, in milliseconds; None if missing or not above 0."""
    number = to_float(header_text(headers, DEADLINE_HEADER))
    return number if 0 < number < math.inf else None


def encode_answer(
    message: ScoreMessage, headers: Sequence[Header], form: AnswerForm, *, framed: bool = False, prefix: bytes = b""
) -> tuple[bytes, Sequence[Header]]:
    """Encodes the answer to a record with these headers; returns it with its own headers.

    They are those of the record, with the answer's content type if it differs. A binary answer to a `framed` record,
    which has the prefix of a schema registry, gets `prefix`.
    """
    asked = form_of(headers)
    if form == "as_requested" and (framed or asked == "binary"):
        answer = encode_binary(message)
        headers = headers if asked == "binary" else with_content_type(headers, BINARY_TYPE)
        return prefix + answer if framed else answer, headers
    return encode_scores(message), headers if asked == "json" else with_content_type(headers, JSON_TYPE)


def encode_scores(message: ScoreMessage) -> bytes:
    """Encodes an answer as JSON, with columns in the request's order.

    No score is NaN: the predictor rejects such replies.
    """
    answer: dict[str, object] = {"request_id": message.request_id, "status": message.status}
    if message.model is not None:
        answer["model"] = {"name": message.model.name, "version": message.model.version}
    if message.position is not None:
        answer["ads"] = {"topic": message.position.topic, "positions": message.position.offsets}
    if message.reason is not None:
        answer["reason"] = message.reason
    if message.ad_ids is not None and message.ctr is not None and message.sources is not None:
        answer["ad_id"] = message.ad_ids
        answer["ctr"] = message.ctr
        answer["source"] = source_column(message.sources)
    times = message.times
    answer["ms"] = {
        "decode": round(times.decode, 3),
        "encode": round(times.encode, 3),
        "queue": round(times.queue, 3),
        "predict": round(times.predict, 3),
        "total": round(times.total, 3),
    }
    if message.batch_rows:
        answer["batch_rows"] = message.batch_rows
    origin = message.origin
    answer["origin"] = {"topic": origin.topic, "partition": origin.partition, "offset": origin.offset}
    return orjson.dumps(answer, option=orjson.OPT_SERIALIZE_NUMPY)
