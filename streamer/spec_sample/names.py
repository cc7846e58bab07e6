"""Names of features from texts of others. Pure."""

import re


def new_name(taken: set[str], wanted: str) -> str:
    """A name that a spec accepts, most like `wanted`; it is added to the taken ones."""
    start = re.sub(r"_{2,}", "_", re.sub(r"\W|[^\x00-\x7f]", "_", wanted)).strip("_")
    name = start = start if re.match(r"[A-Za-z]", start) else f"x{start}"
    count = 1
    while name in taken:
        count += 1
        name = f"{start}_{count}"
    taken.add(name)
    return name
