"""Facts that the checks need, as the clients have read them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class TopicFacts:
    """A topic as the brokers describe it.

    Attributes:
        replicas: copies of the partition with the fewest.
        config: the effective values by name; empty if this user may not read them.
    """

    partitions: int
    replicas: int
    config: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class KafkaFacts:
    """The topics and the group.

    Attributes:
        brokers: number of brokers.
        topics: by name; None: the topic is missing, or hidden from this user.
        members: members of the group; None if the brokers do not tell.
        ahead_ms: how far the newest request's timestamp is ahead of this machine's clock; negative: behind; None
            without requests.
        age_ms: least age, at its receipt, of a request that arrived while the topic was watched; None without one.
    """

    brokers: int
    topics: Mapping[str, TopicFacts | None]
    members: int | None = None
    ahead_ms: float | None = None
    age_ms: float | None = None


@dataclass(frozen=True, slots=True)
class SubjectFacts:
    """The schemas of a topic's values in a schema registry.

    Attributes:
        version: the newest one; None: there is no such subject.
        fault: why it does not fit; None if it does.
        is_registered_later: a missing subject is no fault: a bidder or the scorer itself registers it.
    """

    version: int | None
    fault: str | None
    is_registered_later: bool


@dataclass(frozen=True, slots=True)
class VersionState:
    """A version as GetModelStatus reports it.

    Attributes:
        state: START, LOADING, AVAILABLE, UNLOADING or END.
        error: code and text of a failed load; empty without one.
    """

    version: int
    state: str
    error: str = ""


@dataclass(frozen=True, slots=True)
class ModelFacts:
    """One model on one server.

    Attributes:
        states: the versions that the server knows; a text: why it does not answer.
        score_error: why a call of the `score` signature fails; empty if it succeeds, or was not made.
    """

    states: Sequence[VersionState] | str
    score_error: str = ""


@dataclass(frozen=True, slots=True)
class Roles:
    """The versions that a scorer or an operator wants.

    Attributes:
        pinned: version by role, such as `pinned` or `label stable`.
        label_errors: why a label leads nowhere, by label.
    """

    pinned: Mapping[str, int] = field(default_factory=dict)
    label_errors: Mapping[str, str] = field(default_factory=dict)
