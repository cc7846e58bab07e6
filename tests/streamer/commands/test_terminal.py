"""No text of a record, a model server or another program controls the terminal of an operator."""

import sys

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from streamer.commands import app, main
from streamer.commands.dlq import described
from streamer.errors import StreamerError
from streamer.kafka.dead_letters import StoredDeadLetter
from streamer.settings.names import printable

# A title of the window, a clipboard entry, the C1 form of ESC [, a change of the writing direction, half a character.
HOSTILE = "\x1b]0;pwned\x07\x1b]52;c;bHM=\x07\x9b31m\u202etxt\ud800\r\nreason: none"
TEXTS = st.text(st.one_of(st.characters(), st.sampled_from("\x00\x1b\x07\x9b\r\n\u202e\u2028\ud800é")))


@given(TEXTS, st.booleans())
def test_only_unprintable_characters_are_escaped(text: str, keep_lines: bool) -> None:
    shown = printable(text, keep_lines=keep_lines)
    assert shown.replace("\n", "" if keep_lines else "\n").isprintable()
    assert shown.encode().decode() == shown
    if text.isprintable():
        assert shown == text


@example(text="", key=b'{"a": [{}]}', value=None, n="")
@given(TEXTS, st.binary(), st.one_of(st.none(), st.binary()), st.sampled_from(["", "9" * 5000, "-1", "٣"]))
def test_a_dead_letter_is_shown_without_control_characters(text: str, key: bytes, value: bytes | None, n: str) -> None:
    own = text.encode(errors="surrogatepass")
    headers = [(f"dead_letter.{name}", own) for name in ("reason", "stage", "topic")]
    headers += [(f"dead_letter.{name}", n.encode()) for name in ("partition", "offset", "timestamp_ms", "replays")]
    headers += [(text, own), ("x", b'{"a": "\\u009b\\ud800"}')]
    stored = StoredDeadLetter.parse("0:1", 2**62, key, value, headers)
    lines = described(stored)
    assert "\n".join(lines).replace("\n", "").isprintable()
    assert [line.partition(":")[0] for line in lines[:3]] == ["reason", "stage", "came from"]
    assert not any("\n" in line for line in lines[:5])


def test_the_error_of_a_command_is_escaped(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    @app.command("fails")
    def fails() -> None:
        raise StreamerError(HOSTILE)

    monkeypatch.setattr(sys, "argv", ["streamer", "fails"])
    try:
        with pytest.raises(SystemExit) as exited:
            main()
    finally:
        app.registered_commands.pop()
    assert exited.value.code == 1
    written = capsys.readouterr().err
    assert written.replace("\n", "").isprintable()
    assert written.startswith("streamer: \\x1b]0;pwned\\x07\\x1b]52;c;bHM=\\x07\\x9b31m\\u202etxt\\ud800\\r\n")
