"""Decompresses record batches up to a limit. Pure."""

import zlib
from collections.abc import Callable, Mapping

import cramjam

_XERIAL = b"\x82SNAPPY\x00"
_XERIAL_HEADER_BYTES = 16
_GZIP_WINDOW = 16 + zlib.MAX_WBITS
_GZIP_MEMBERS = 100


class TooLargeError(Exception):
    """The decompressed data are larger than the limit."""

    def __init__(self, limit: int) -> None:
        super().__init__(f"decompresses to more than {limit} bytes")


def decompress(codec: int, data: bytes, limit: int) -> bytes | memoryview:
    """Decompresses data; `codec` is the number in a batch's attributes.

    It never holds much more than `limit` bytes, whatever the ratio of the compression.

    Raises:
        TooLargeError: there are more than `limit` bytes.
        ValueError, zlib.error, cramjam.DecompressionError: the codec is unknown, or the data are damaged.
    """
    if codec not in _CODECS:
        raise ValueError(f"unknown compression codec {codec}")
    return _CODECS[codec](data, limit)


def _gzip(data: bytes, limit: int) -> bytes | memoryview:
    found = b""
    # Members after the first one are allowed, though no client of Kafka writes them. Each copies all data behind it.
    for _ in range(_GZIP_MEMBERS):
        member = zlib.decompressobj(_GZIP_WINDOW)
        found += member.decompress(data, limit - len(found) + 1)
        if len(found) > limit:
            raise TooLargeError(limit)
        if not member.eof:
            raise ValueError("the gzip data end too early")
        data = member.unused_data
        if not data:
            return memoryview(found)
    raise ValueError(f"more than {_GZIP_MEMBERS} gzip members")


def _snappy(data: bytes, limit: int) -> bytes | memoryview:
    blocks = [data]
    if data.startswith(_XERIAL):
        blocks, at = [], _XERIAL_HEADER_BYTES
        while at < len(data):
            size = int.from_bytes(data[at : at + 4], "big")
            blocks.append(data[at + 4 : at + 4 + size])
            at += 4 + size
    sizes = [cramjam.snappy.decompress_raw_len(block) for block in blocks]
    if sum(sizes) > limit:
        raise TooLargeError(limit)
    found, at = bytearray(sum(sizes)), 0
    for block, size in zip(blocks, sizes, strict=True):
        cramjam.snappy.decompress_raw_into(block, memoryview(found)[at : at + size])
        at += size
    return memoryview(found)


def _growing(decompress_into: Callable[[bytes, bytearray], int]) -> Callable[[bytes, int], bytes | memoryview]:
    """A codec whose frames do not tell their size: larger and larger buffers are tried."""

    def decompress(data: bytes, limit: int) -> bytes | memoryview:
        size = min(limit, max(2**16, 4 * len(data)))
        while True:
            found = bytearray(size)
            try:
                return memoryview(found)[: decompress_into(data, found)]
            except cramjam.DecompressionError as error:
                # cramjam has one class for all errors.
                if "failed to write whole buffer" not in str(error):
                    raise
            if size == limit:
                raise TooLargeError(limit)
            size = min(limit, 4 * size)

    return decompress


_CODECS: Mapping[int, Callable[[bytes, int], bytes | memoryview]] = {
    1: _gzip,
    2: _snappy,
    3: _growing(cramjam.lz4.decompress_into),
    4: _growing(cramjam.zstd.decompress_into),
}
