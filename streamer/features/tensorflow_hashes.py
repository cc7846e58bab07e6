"""The two hashes with which TensorFlow and Keras turn a text into a bucket. Pure Python.

`fingerprint64`: `tf.strings.to_hash_bucket_fast`, Keras's `Hashing` and `StringLookup`. `siphash24`:
`tf.strings.to_hash_bucket_strong`, and Keras's layers with a `salt`. A hash takes microseconds; the caller memoises.
"""

from struct import Struct

_MASK = 2**64 - 1
_K0, _K1, _K2 = 0xC3A5C85C97CB3127, 0xB492B66FBE98F273, 0x9AE16A3B2F90404F
_U32, _U64 = Struct("<I"), Struct("<Q")
_WORDS = Struct("<8Q")


def fingerprint64(data: bytes) -> int:
    """FarmHash's Fingerprint64, in [0, 2^64).

    Source: `farmhashna::Hash64` of github.com/google/farmhash; names of variables as there.
    """
    n = len(data)
    if n <= 16:
        return _up_to_16(data, n)
    if n <= 32:
        return _up_to_32(data, n)
    return _up_to_64(data, n) if n <= 64 else _above_64(data, n)


def siphash24(data: bytes, key: tuple[int, int]) -> int:
    """SipHash-2-4 with a key of two 64-bit words, in [0, 2^64).

    Source: Aumasson, Bernstein: SipHash: a fast short-input PRF, 2012.
    """
    k0, k1 = key[0] & _MASK, key[1] & _MASK
    v0, v1, v2, v3 = k0 ^ 0x736F6D6570736575, k1 ^ 0x646F72616E646F6D, k0 ^ 0x6C7967656E657261, k1 ^ 0x7465646279746573
    n = len(data)
    padded = data + bytes(7 - n % 8) + bytes([n & 0xFF])
    for (word,) in _U64.iter_unpack(padded):
        v3 ^= word
        v0, v1, v2, v3 = _sip_rounds(v0, v1, v2, v3, 2)
        v0 ^= word
    v0, v1, v2, v3 = _sip_rounds(v0, v1, v2 ^ 0xFF, v3, 4)
    return v0 ^ v1 ^ v2 ^ v3


def _sip_rounds(v0: int, v1: int, v2: int, v3: int, rounds: int) -> tuple[int, int, int, int]:
    for _ in range(rounds):
        v0 = (v0 + v1) & _MASK
        v1 = _left(v1, 13) ^ v0
        v0 = _left(v0, 32)
        v2 = (v2 + v3) & _MASK
        v3 = _left(v3, 16) ^ v2
        v0 = (v0 + v3) & _MASK
        v3 = _left(v3, 21) ^ v0
        v2 = (v2 + v1) & _MASK
        v1 = _left(v1, 17) ^ v2
        v2 = _left(v2, 32)
    return v0, v1, v2, v3


def _left(x: int, by: int) -> int:
    return (x << by | x >> (64 - by)) & _MASK


def _right(x: int, by: int) -> int:
    x &= _MASK
    return (x >> by | x << (64 - by)) & _MASK


def _word(data: bytes, at: int) -> int:
    word: int = _U64.unpack_from(data, at)[0]
    return word


def _shift_mix(x: int) -> int:
    return x ^ x >> 47


def _mixed(u: int, v: int, mul: int) -> int:
    """`HashLen16` with a multiplier."""
    a = _shift_mix(((u ^ v) & _MASK) * mul & _MASK)
    b = _shift_mix(((v ^ a) & _MASK) * mul & _MASK)
    return b * mul & _MASK


def _up_to_16(data: bytes, n: int) -> int:
    mul = _K2 + n * 2
    if n >= 8:
        a = _word(data, 0) + _K2 & _MASK
        b = _word(data, n - 8)
        c = _right(b, 37) * mul + a
        d = (_right(a, 25) + b) * mul
        return _mixed(c, d, mul)
    if n >= 4:
        first, last = _U32.unpack_from(data, 0)[0], _U32.unpack_from(data, n - 4)[0]
        return _mixed(n + (first << 3), last, mul)
    if n:
        y = data[0] + (data[n >> 1] << 8)
        z = n + (data[n - 1] << 2)
        return _shift_mix((y * _K2 ^ z * _K0) & _MASK) * _K2 & _MASK
    return _K2


def _up_to_32(data: bytes, n: int) -> int:
    mul = _K2 + n * 2
    a, b = _word(data, 0) * _K1, _word(data, 8)
    c, d = _word(data, n - 8) * mul, _word(data, n - 16) * _K2
    return _mixed(_right(a + b, 43) + _right(c, 30) + d, a + _right(b + _K2, 18) + c, mul)


def _up_to_64(data: bytes, n: int) -> int:
    mul = _K2 + n * 2
    a, b = _word(data, 0) * _K2, _word(data, 8)
    c, d = _word(data, n - 8) * mul, _word(data, n - 16) * _K2
    y = _right(a + b, 43) + _right(c, 30) + d
    z = _mixed(y, a + _right(b + _K2, 18) + c, mul)
    e, f = _word(data, 16) * mul, _word(data, 24)
    g, h = (y + _word(data, n - 32)) * mul, (z + _word(data, n - 24)) * mul
    return _mixed(_right(e + f, 43) + _right(g, 30) + h, e + _right(f + a, 18) + g, mul)


def _weak(words: tuple[int, int, int, int], a: int, b: int) -> tuple[int, int]:
    """`WeakHashLen32WithSeeds`."""
    w, x, y, z = words
    a += w
    b = _right(b + a + z, 21)
    c = a
    a += x + y
    b += _right(a, 44)
    return (a + z) & _MASK, (b + c) & _MASK


def _above_64(data: bytes, n: int) -> int:
    x, y = 81, 81 * _K1 + 113 & _MASK
    z = _shift_mix(y * _K2 + 113 & _MASK) * _K2 & _MASK
    v, w = (0, 0), (0, 0)
    x = x * _K2 + _word(data, 0)
    for at in range(0, (n - 1) // 64 * 64, 64):
        x, y, z, v, w = _step(_WORDS.unpack_from(data, at), (x, y, z), v, w, (_K1, 1))
    mul = _K1 + ((z & 0xFF) << 1)
    w = (w[0] + (n - 1 & 63), w[1])
    v = (v[0] + w[0], v[1])
    w = (w[0] + v[0], w[1])
    x, y, z, v, w = _step(_WORDS.unpack_from(data, n - 64), (x, y, z), v, w, (mul, 9))
    low = _mixed(v[0], w[0], mul) + _shift_mix(y) * _K0 + z
    return _mixed(low, _mixed(v[1], w[1], mul) + x, mul)


def _step(
    s: tuple[int, ...], xyz: tuple[int, int, int], v: tuple[int, int], w: tuple[int, int], factors: tuple[int, int]
) -> tuple[int, int, int, tuple[int, int], tuple[int, int]]:
    """One block of 64 bytes, as eight words; the last block has other factors."""
    (x, y, z), (mul, factor) = xyz, factors
    x = _right(x + y + v[0] + s[1], 37) * mul & _MASK
    y = _right(y + v[1] + s[6], 42) * mul & _MASK
    x ^= w[1] * factor & _MASK
    y = y + v[0] * factor + s[5] & _MASK
    z = _right(z + w[0], 33) * mul & _MASK
    v = _weak((s[0], s[1], s[2], s[3]), v[1] * mul, x + w[0])
    w = _weak((s[4], s[5], s[6], s[7]), z + w[1], y + s[2])
    return z, y, x, v, w
