"""Evidence in a commit's metadata of the log that its offset belongs to. Pure.

Wire format: white space at the end of the mark, a space for 0 and a tab for 1. Workers of release 0.1, and of 0.2
without this file, split a mark into its words, so they read it as before. They would not know a mark with other words:
0.1 would isolate each partition that it gets, and 0.2 would count a death.
"""

from typing import NamedTuple, Self

from streamer.kafka.poison import PREFIX

_TOPIC_BITS, _COUNT_BITS = 32, 16
_WHITE = {ord("0"): " ", ord("1"): "\t"}
_BITS = {ord(" "): "0", ord("\t"): "1"}


class Evidence(NamedTuple):
    """The log of a committed offset.

    Attributes:
        topic: fingerprint of the topic's id, which differs when a topic of this name is created again; 0 if not known.
        first_partitions: partitions that the topic had when the group began to read it. `source.start_at` applies to
            these only, as the others did not exist. 0 if not known: then it applies to no partition any more.
    """

    topic: int = 0
    first_partitions: int = 0

    def __str__(self) -> str:
        if self == Evidence():
            return ""
        count = min(self.first_partitions, 2**_COUNT_BITS - 1)
        return f"{self.topic:0{_TOPIC_BITS}b}{count:0{_COUNT_BITS}b}".translate(_WHITE)

    @classmethod
    def parse(cls, mark: str) -> Self:
        """The evidence at the end of a mark; other programs and earlier releases write none."""
        white = mark[len(mark.rstrip(" \t")) :]
        if not mark.startswith(PREFIX) or len(white) != _TOPIC_BITS + _COUNT_BITS:
            return cls()
        bits = white.translate(_BITS)
        return cls(int(bits[:_TOPIC_BITS], 2), int(bits[_TOPIC_BITS:], 2))

    def is_of_another(self, topic: int) -> bool:
        """Whether the offset belongs to another topic than the one with this fingerprint."""
        return bool(self.topic and topic) and self.topic != topic
