"""Names of the topics of one scorer."""

from typing import NamedTuple


class Topics(NamedTuple):
    """The topic that a scorer reads and the two topics that it writes."""

    requests: str
    scores: str
    dead_letters: str
