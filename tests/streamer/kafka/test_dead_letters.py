from dataclasses import replace

from streamer.kafka.dead_letters import REPLAYS, VALUE_BYTES, DeadLetterFilter, StoredDeadLetter, headers_of
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


def stored(*more: Header, letter: DeadLetter = LETTER, at_ms: int = 5000) -> StoredDeadLetter:
    return StoredDeadLetter.parse("2:9", at_ms, letter.key, letter.value, [*headers_of(letter), *more])


def test_a_dead_letter_is_parsed_as_it_was_written() -> None:
    found = stored()
    assert found.letter == LETTER
    assert (found.position, found.value_bytes, found.replays) == ("2:9", None, 0)


def test_a_record_that_could_not_be_read_is_not_complete() -> None:
    """It cannot be replayed: its value is unknown."""
    assert stored(letter=replace(LETTER, key=None, value=None, headers=[], stage="read")).value_bytes == 0


def test_a_reason_with_any_text_can_be_written() -> None:
    assert stored(letter=replace(LETTER, reason="ad_id: \ud800")).letter.reason == "ad_id: \\ud800"


def test_the_size_of_a_value_that_was_left_out_is_kept() -> None:
    assert stored((VALUE_BYTES, b"123456")).value_bytes == 123456


def test_replays_are_counted_and_the_scorers_headers_are_removed() -> None:
    assert stored().headers_for_replay() == [("trace", b"t-1"), (REPLAYS, b"1")]
    # It came back: the header of its replay precedes the new headers.
    again = replace(LETTER, headers=[("trace", b"t-1"), (REPLAYS, b"1")])
    found = stored(letter=again)
    assert found.replays == 1
    assert found.letter.headers == [("trace", b"t-1")]
    assert found.headers_for_replay() == [("trace", b"t-1"), (REPLAYS, b"2")]


def test_a_record_of_another_program_is_parsed() -> None:
    found = StoredDeadLetter.parse("0:0", 1, None, None, [("dead_letter.offset", b"\xff"), ("x", b"")])
    assert found.letter == DeadLetter(None, None, [("x", b"")], Origin("", 0, 0), 0, "", "")


def test_a_filter_matches_if_all_its_fields_do() -> None:
    found = stored()
    for wanted in (
        DeadLetterFilter(),
        DeadLetterFilter(reason="JSON"),
        DeadLetterFilter(stage="decode", topic="bid-requests", since_ms=5000),
        DeadLetterFilter(positions=frozenset({"2:9", "0:0"})),
    ):
        assert wanted.matches(found)
    for wanted in (
        DeadLetterFilter(reason="ad_id"),
        DeadLetterFilter(stage="encode"),
        DeadLetterFilter(topic="other"),
        DeadLetterFilter(since_ms=5001),
        DeadLetterFilter(positions=frozenset({"9:2"})),
        DeadLetterFilter(reason="JSON", stage="encode"),
    ):
        assert not wanted.matches(found)
