"""DescribeGroups v4: the members of a group with their instance ids.

aiokafka 0.14 has v0 to v3, which contain no instance ids. Brokers have v4 since Kafka 2.4.
"""

from collections import Counter
from dataclasses import dataclass
from typing import Any, Self

from aiokafka.coordinator.protocol import ConsumerProtocol
from aiokafka.protocol.api import Request, RequestStruct, Response
from aiokafka.protocol.types import Array, Boolean, Bytes, Int16, Int32, Schema, String

_TEXT = String("utf-8")


class _Response(Response):  # type: ignore[misc]  # aiokafka has no types
    API_KEY = 15
    API_VERSION = 4
    SCHEMA = Schema(
        ("throttle_time_ms", Int32),
        (
            "groups",
            Array(
                ("error_code", Int16),
                ("group", _TEXT),
                ("state", _TEXT),
                ("protocol_type", _TEXT),
                ("protocol", _TEXT),
                (
                    "members",
                    Array(
                        ("member_id", _TEXT),
                        ("group_instance_id", _TEXT),
                        ("client_id", _TEXT),
                        ("client_host", _TEXT),
                        ("member_metadata", Bytes),
                        ("member_assignment", Bytes),
                    ),
                ),
                ("authorized_operations", Int32),
            ),
        ),
    )


class _RequestV4(RequestStruct):  # type: ignore[misc]
    API_KEY = 15
    API_VERSION = 4
    RESPONSE_TYPE = _Response
    SCHEMA = Schema(("groups", Array(_TEXT)), ("include_authorized_operations", Boolean))


class DescribeGroup(Request[_RequestV4]):  # type: ignore[misc]
    """Asks a group's coordinator for its members."""

    API_KEY = 15

    def __init__(self, group: str) -> None:
        self._group = group

    def build(self, version: type[_RequestV4]) -> _RequestV4:
        return version([self._group], False)


@dataclass(frozen=True, slots=True)
class DescribedMember:
    """A member of a group, as its coordinator knows it.

    Attributes:
        instance_id: the member's static name; None for a dynamic member.
        client: client id and host, for people.
        assigned: number of its partitions by topic; empty unless the group is stable.
    """

    member_id: str
    instance_id: str | None
    client: str
    assigned: Counter[str]


@dataclass(frozen=True, slots=True)
class DescribedGroup:
    """The answer to `DescribeGroup`.

    Attributes:
        protocol_type: `consumer` for consumers.
        protocol: the members' assignor; empty unless the group is stable.
    """

    error_code: int
    is_stable: bool
    protocol_type: str
    protocol: str
    members: tuple[DescribedMember, ...]

    @classmethod
    def of(cls, response: Any) -> Self:
        """Reads the coordinator's response."""
        ((code, _group, state, kind, protocol, members, _operations),) = response.groups
        return cls(code, state == "Stable", kind, protocol, tuple(_member(kind, member) for member in members))

    def partitions_of(self, topic: str) -> int:
        """Number of partitions of a topic that the members have."""
        return sum(member.assigned[topic] for member in self.members)


def _member(kind: str, member: Any) -> DescribedMember:
    member_id, instance_id, client_id, host, _metadata, assignment = member
    # Other kinds of members have assignments of another format.
    is_known = kind == ConsumerProtocol.PROTOCOL_TYPE and assignment
    partitions = ConsumerProtocol.ASSIGNMENT.decode(assignment).partitions() if is_known else ()
    return DescribedMember(
        member_id,
        instance_id,
        f"client {client_id} at {host.removeprefix('/')}",
        Counter(top.topic for top in partitions),
    )
