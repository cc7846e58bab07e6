from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Source(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    MODEL: _ClassVar[Source]
    CACHE: _ClassVar[Source]
    PRIOR: _ClassVar[Source]
MODEL: Source
CACHE: Source
PRIOR: Source

class BidRequest(_message.Message):
    __slots__ = ("document", "text_paths", "number_paths", "list_paths", "candidates", "columns")
    DOCUMENT_FIELD_NUMBER: _ClassVar[int]
    TEXT_PATHS_FIELD_NUMBER: _ClassVar[int]
    NUMBER_PATHS_FIELD_NUMBER: _ClassVar[int]
    LIST_PATHS_FIELD_NUMBER: _ClassVar[int]
    CANDIDATES_FIELD_NUMBER: _ClassVar[int]
    COLUMNS_FIELD_NUMBER: _ClassVar[int]
    document: bytes
    text_paths: _containers.RepeatedScalarFieldContainer[str]
    number_paths: _containers.RepeatedScalarFieldContainer[str]
    list_paths: _containers.RepeatedScalarFieldContainer[str]
    candidates: _containers.RepeatedScalarFieldContainer[bytes]
    columns: _containers.RepeatedCompositeFieldContainer[Column]
    def __init__(self, document: _Optional[bytes] = ..., text_paths: _Optional[_Iterable[str]] = ..., number_paths: _Optional[_Iterable[str]] = ..., list_paths: _Optional[_Iterable[str]] = ..., candidates: _Optional[_Iterable[bytes]] = ..., columns: _Optional[_Iterable[_Union[Column, _Mapping]]] = ...) -> None: ...

class Candidate(_message.Message):
    __slots__ = ("texts", "numbers", "lists")
    TEXTS_FIELD_NUMBER: _ClassVar[int]
    NUMBERS_FIELD_NUMBER: _ClassVar[int]
    LISTS_FIELD_NUMBER: _ClassVar[int]
    texts: _containers.RepeatedScalarFieldContainer[str]
    numbers: _containers.RepeatedScalarFieldContainer[float]
    lists: _containers.RepeatedCompositeFieldContainer[Texts]
    def __init__(self, texts: _Optional[_Iterable[str]] = ..., numbers: _Optional[_Iterable[float]] = ..., lists: _Optional[_Iterable[_Union[Texts, _Mapping]]] = ...) -> None: ...

class Texts(_message.Message):
    __slots__ = ("values",)
    VALUES_FIELD_NUMBER: _ClassVar[int]
    values: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, values: _Optional[_Iterable[str]] = ...) -> None: ...

class Column(_message.Message):
    __slots__ = ("path", "texts", "numbers", "lists")
    PATH_FIELD_NUMBER: _ClassVar[int]
    TEXTS_FIELD_NUMBER: _ClassVar[int]
    NUMBERS_FIELD_NUMBER: _ClassVar[int]
    LISTS_FIELD_NUMBER: _ClassVar[int]
    path: str
    texts: _containers.RepeatedScalarFieldContainer[str]
    numbers: _containers.RepeatedScalarFieldContainer[float]
    lists: _containers.RepeatedCompositeFieldContainer[Texts]
    def __init__(self, path: _Optional[str] = ..., texts: _Optional[_Iterable[str]] = ..., numbers: _Optional[_Iterable[float]] = ..., lists: _Optional[_Iterable[_Union[Texts, _Mapping]]] = ...) -> None: ...

class Scores(_message.Message):
    __slots__ = ("request_id", "status", "model", "reason", "ad_id", "ctr", "source", "ms", "batch_rows", "origin", "ads")
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    STATUS_FIELD_NUMBER: _ClassVar[int]
    MODEL_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    AD_ID_FIELD_NUMBER: _ClassVar[int]
    CTR_FIELD_NUMBER: _ClassVar[int]
    SOURCE_FIELD_NUMBER: _ClassVar[int]
    MS_FIELD_NUMBER: _ClassVar[int]
    BATCH_ROWS_FIELD_NUMBER: _ClassVar[int]
    ORIGIN_FIELD_NUMBER: _ClassVar[int]
    ADS_FIELD_NUMBER: _ClassVar[int]
    request_id: str
    status: str
    model: Model
    reason: str
    ad_id: _containers.RepeatedScalarFieldContainer[str]
    ctr: _containers.RepeatedScalarFieldContainer[float]
    source: _containers.RepeatedScalarFieldContainer[Source]
    ms: Milliseconds
    batch_rows: int
    origin: Origin
    ads: AdsPosition
    def __init__(self, request_id: _Optional[str] = ..., status: _Optional[str] = ..., model: _Optional[_Union[Model, _Mapping]] = ..., reason: _Optional[str] = ..., ad_id: _Optional[_Iterable[str]] = ..., ctr: _Optional[_Iterable[float]] = ..., source: _Optional[_Iterable[_Union[Source, str]]] = ..., ms: _Optional[_Union[Milliseconds, _Mapping]] = ..., batch_rows: _Optional[int] = ..., origin: _Optional[_Union[Origin, _Mapping]] = ..., ads: _Optional[_Union[AdsPosition, _Mapping]] = ...) -> None: ...

class AdsPosition(_message.Message):
    __slots__ = ("topic", "positions")
    TOPIC_FIELD_NUMBER: _ClassVar[int]
    POSITIONS_FIELD_NUMBER: _ClassVar[int]
    topic: str
    positions: _containers.RepeatedScalarFieldContainer[int]
    def __init__(self, topic: _Optional[str] = ..., positions: _Optional[_Iterable[int]] = ...) -> None: ...

class Model(_message.Message):
    __slots__ = ("name", "version")
    NAME_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    name: str
    version: int
    def __init__(self, name: _Optional[str] = ..., version: _Optional[int] = ...) -> None: ...

class Milliseconds(_message.Message):
    __slots__ = ("decode", "encode", "queue", "predict", "total")
    DECODE_FIELD_NUMBER: _ClassVar[int]
    ENCODE_FIELD_NUMBER: _ClassVar[int]
    QUEUE_FIELD_NUMBER: _ClassVar[int]
    PREDICT_FIELD_NUMBER: _ClassVar[int]
    TOTAL_FIELD_NUMBER: _ClassVar[int]
    decode: float
    encode: float
    queue: float
    predict: float
    total: float
    def __init__(self, decode: _Optional[float] = ..., encode: _Optional[float] = ..., queue: _Optional[float] = ..., predict: _Optional[float] = ..., total: _Optional[float] = ...) -> None: ...

class Origin(_message.Message):
    __slots__ = ("topic", "partition", "offset")
    TOPIC_FIELD_NUMBER: _ClassVar[int]
    PARTITION_FIELD_NUMBER: _ClassVar[int]
    OFFSET_FIELD_NUMBER: _ClassVar[int]
    topic: str
    partition: int
    offset: int
    def __init__(self, topic: _Optional[str] = ..., partition: _Optional[int] = ..., offset: _Optional[int] = ...) -> None: ...
