"""The hashes of TensorFlow and Keras, without TensorFlow."""

import random

import pytest

from streamer.features.tensorflow_hashes import fingerprint64, siphash24

# Of bytes(i * 7 + 3 & 255), from tf.strings.to_hash_bucket_fast and _strong with key [3, 2**62 + 7], modulo 2**63 - 1.
KNOWN = {
    0: (1936946117179621456, 3738907339281837750),
    1: (4521786392703311244, 1627476467035403459),
    3: (4662423180930907492, 6949515665860120019),
    4: (8342898540396837779, 5065111068594705040),
    7: (5759834791111993764, 4362551916745025700),
    8: (907454142650066470, 6974377951358031937),
    15: (3216519055487487771, 7856495738766042849),
    16: (9140634717936656744, 322234152664867365),
    17: (5283162056940282152, 5450896116381120721),
    31: (4421592475991032780, 3899248746468788448),
    32: (2684005117763720425, 4426127953394733833),
    33: (4778210889463820522, 2368597019089481153),
    63: (1604338371932276381, 5918084257068932104),
    64: (389040666157116578, 3642656621228258932),
    65: (8638051931306504420, 427600164840684919),
    127: (5377748835515186047, 5682295771565054220),
    128: (7379187116787024497, 6884408782854665443),
    129: (1738507677182238852, 4702359474313853676),
    200: (7886090686657605591, 7641856441652031785),
}
KEY = (3, 2**62 + 7)
MODULUS = 2**63 - 1


@pytest.mark.parametrize("size", KNOWN)
def test_texts_of_each_length_class_have_tensorflows_hashes(size: int) -> None:
    data = bytes(i * 7 + 3 & 255 for i in range(size))
    assert (fingerprint64(data) % MODULUS, siphash24(data, KEY) % MODULUS) == KNOWN[size]


def test_a_hash_of_the_siphash_paper() -> None:
    key = (0x0706050403020100, 0x0F0E0D0C0B0A0908)
    assert siphash24(bytes(range(15)), key) == 0xA129CA6149BE45E5


@pytest.mark.slow
@pytest.mark.tensorflow
def test_random_texts_have_tensorflows_hashes() -> None:
    import tensorflow as tf  # noqa: PLC0415

    source = random.Random(1)
    texts = [source.randbytes(size) for size in range(400) for _ in range(20)]
    fast = tf.strings.to_hash_bucket_fast(tf.constant(texts), MODULUS).numpy().tolist()
    strong = tf.strings.to_hash_bucket_strong(tf.constant(texts), MODULUS, KEY).numpy().tolist()
    assert [fingerprint64(text) % MODULUS for text in texts] == fast
    assert [siphash24(text, KEY) % MODULUS for text in texts] == strong
