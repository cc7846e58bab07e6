from dataclasses import replace

from streamer.kafka.dead_letters import REPLAYS, VALUE_BYTES, Buried, Wanted, headers_of, read
from streamer.types import DeadLetter, Header, Origin

LETTER = DeadLetter(
    key=b"u1",
    value=b"{nonsense",
    headers=[("trace", b"t-1")],
    origin=Origin("bid-requests", 3, 17),
    timestamp_ms=1_700_000_000_000,
    stage="decode",
    reason="record: not valid JSON",
)


def buried(*more: Header, letter: DeadLetter = LETTER, at_ms: int = 5000) -> Buried:
    return read(2, 9, at_ms, key=letter.key, value=letter.value, headers=[*headers_of(letter), *more])


def test_what_is_written_is_read() -> None:
    found = buried()
    assert found.letter == LETTER
    assert (found.position, found.value_bytes, found.replays) == ("2:9", None, 0)


def test_a_value_that_was_left_out_is_told() -> None:
    assert buried((VALUE_BYTES, b"123456")).value_bytes == 123456


def test_replays_are_counted_and_the_scorers_own_headers_left_behind() -> None:
    assert buried().headers_for_replay() == [("trace", b"t-1"), (REPLAYS, b"1")]
    # It came back: the header of its replay stands before those of the second time.
    again = replace(LETTER, headers=[("trace", b"t-1"), (REPLAYS, b"1")])
    found = buried(letter=again)
    assert found.replays == 1
    assert found.letter.headers == [("trace", b"t-1")]
    assert found.headers_for_replay() == [("trace", b"t-1"), (REPLAYS, b"2")]


def test_a_record_that_somebody_else_put_there_is_read_too() -> None:
    found = read(0, 0, 1, key=None, value=None, headers=[("dead_letter.offset", b"\xff"), ("x", b"")])
    assert found.letter == DeadLetter(None, None, [("x", b"")], Origin("", 0, 0), 0, "", "")


def test_filters_agree_or_do_not() -> None:
    found = buried()
    for wanted in (
        Wanted(),
        Wanted(reason="JSON"),
        Wanted(stage="decode", topic="bid-requests", since_ms=5000),
        Wanted(positions=frozenset({"2:9", "0:0"})),
    ):
        assert wanted.matches(found)
    for wanted in (
        Wanted(reason="ad_id"),
        Wanted(stage="encode"),
        Wanted(topic="other"),
        Wanted(since_ms=5001),
        Wanted(positions=frozenset({"9:2"})),
        Wanted(reason="JSON", stage="encode"),
    ):
        assert not wanted.matches(found)
