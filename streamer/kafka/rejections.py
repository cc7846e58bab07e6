"""Why brokers reject this member or its producers, in the words of the settings."""

from collections.abc import Mapping
from typing import Final

from aiokafka.client import AIOKafkaClient
from aiokafka.errors import KafkaError
from aiokafka.protocol.admin import DescribeConfigsRequest

from streamer.kafka.described_group import DescribedGroup

_LEAST_SESSION: Final = "group.min.session.timeout.ms"
_MOST_SESSION: Final = "group.max.session.timeout.ms"
_MOST_TRANSACTION: Final = "transaction.max.timeout.ms"
_BROKER: Final = 4
"""The protocol's number for the settings of a broker."""

Limits = Mapping[str, int]
"""Limits of a broker by the names of its settings; those that this user may not read are absent."""


async def limits_of(client: AIOKafkaClient, node: int) -> Limits:
    """The limits of one broker. Reading them needs the right DESCRIBE_CONFIGS for the cluster."""
    request = DescribeConfigsRequest([(_BROKER, str(node), [_LEAST_SESSION, _MOST_SESSION, _MOST_TRANSACTION])])
    try:
        reply = await client.send(node, request)
    except (KafkaError, NotImplementedError):  # the second by brokers that do not know the request
        return {}
    return {entry[0]: int(entry[1]) for resource in reply.resources for entry in resource[4] if entry[1]}


def session_timeout(timeout_ms: int, limits: Limits) -> str:
    """The brokers reject `kafka.session_timeout_ms`."""
    least, most = (limits.get(name, "?") for name in (_LEAST_SESSION, _MOST_SESSION))
    accepted = f"the brokers accept {least} to {most}" if limits else "the brokers do not accept it"
    return f"kafka.session_timeout_ms is {timeout_ms}, {accepted} ({_LEAST_SESSION}, {_MOST_SESSION})"


def transaction_timeout(timeout_ms: int, limits: Limits) -> str:
    """The brokers reject `delivery.transaction_timeout_ms`."""
    most = limits.get(_MOST_TRANSACTION)
    accepted = "do not accept it" if most is None else f"accept at most {most}"
    return f"delivery.transaction_timeout_ms is {timeout_ms}, the brokers {accepted} ({_MOST_TRANSACTION})"


def other_members(group_id: str, assignor: str, group: DescribedGroup | None) -> str:
    """The group has members that do not know this member's assignor."""
    found, members = "another assignor", ""
    if group is not None and group.protocol:
        found = f"the assignor {group.protocol!r}"
        found += "" if group.protocol_type == "consumer" else f" of the type {group.protocol_type}"
    if group is not None and group.members:
        members = f" ({', '.join(sorted({member.client for member in group.members}))})"
    return f"kafka.group_id: group {group_id!r} uses {found}{members}, this scorer {assignor!r}"


def is_session_accepted(timeout_ms: int, limits: Limits) -> bool:
    """Whether a session timeout is within the limits, as far as these are known."""
    return limits.get(_LEAST_SESSION, 0) <= timeout_ms <= limits.get(_MOST_SESSION, timeout_ms)


def is_transaction_accepted(timeout_ms: int, limits: Limits) -> bool:
    """Whether a transaction timeout is within the limit, as far as it is known."""
    return timeout_ms <= limits.get(_MOST_TRANSACTION, timeout_ms)
