"""Text of others on a terminal, which would execute its control characters."""


def printable(text: str, *, keep_lines: bool = False) -> str:
    """The text with each unprintable character as its escape (`\\x1b`).

    Unprintable are control characters, also those above 127, changes of the writing direction, lone surrogates, and
    line ends unless `keep_lines`.
    """
    if text.isprintable():
        return text
    kept = "\n" if keep_lines else ""
    return "".join(one if one.isprintable() or one in kept else ascii(one)[1:-1] for one in text)
