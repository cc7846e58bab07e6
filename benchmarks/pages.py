"""Pages of docs/ with a part that a benchmark writes."""


def replaced(page: str, made: str, marks: tuple[str, str]) -> str:
    """`page` with new text between its two marks.

    Raises:
        ValueError: the page has no marks.
    """
    before, begin, rest = page.partition(marks[0])
    _, end, after = rest.partition(marks[1])
    if not begin or not end:
        raise ValueError(f"the page has no lines {marks[0]!r} and {marks[1]!r}")
    return f"{before}{begin}\n\n{made}\n\n{end}{after}"
