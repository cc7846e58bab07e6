"""Faults of the broker: stopped, killed, disconnected, full, or rejecting records."""

import time
from collections.abc import Callable

import psutil
from confluent_kafka.admin import (
    AclBinding,
    AclBindingFilter,
    AclOperation,
    AclPermissionType,
    ResourcePatternType,
    ResourceType,
)

from benchmarks.chaos.scene import BETWEEN_S, OUTAGE_S, RECOVERY_S, Chaos, delivered
from benchmarks.report import Figure
from sandbox.broker.admin import admin_client
from sandbox.broker.topics import Topics
from sandbox.host.network_faults import Cut

_FILE_BYTES = 2**20
_EVERYONE = "User:ANONYMOUS"
"""The user of clients that do not log in."""


def broker_stop(chaos: Chaos) -> list[Figure]:
    """The broker is down for 20 seconds."""
    return _broker(chaos, "broker_stop", chaos.bench.broker.stop)


def broker_kill(chaos: Chaos) -> list[Figure]:
    """The broker is killed by SIGKILL and down for 20 seconds."""
    return _broker(chaos, "broker_kill", chaos.bench.broker.kill)


def broker_cut(chaos: Chaos) -> list[Figure]:
    """The scorer's connections to the broker are reset in the middle of records, for 3 seconds."""

    def cut(_: Topics) -> None:
        chaos.proxy.begin(Cut())
        time.sleep(BETWEEN_S)
        chaos.proxy.end(Cut())

    return _outage(chaos, "broker_cut", cut, by_proxy=True)


def broker_full(chaos: Chaos) -> list[Figure]:
    """The broker cannot write, as on a full disk, and exits; 20 s later it can write again."""
    broker = chaos.bench.broker

    def fill(_: Topics) -> None:
        psutil.Process(broker.pid).rlimit(psutil.RLIMIT_FSIZE, (_FILE_BYTES, _FILE_BYTES))
        time.sleep(OUTAGE_S)
        broker.kill()
        broker.start()

    return _outage(chaos, "broker_full", fill)


def output_forbidden(chaos: Chaos) -> list[Figure]:
    """For 20 seconds an ACL denies writing answers."""
    admin = admin_client(chaos.bench.bootstrap)

    def forbid(topics: Topics) -> None:
        bindings = [
            AclBinding(
                ResourceType.TOPIC, topics.scores, ResourcePatternType.LITERAL, _EVERYONE, "*", operation, permission
            )
            for operation, permission in (
                (AclOperation.WRITE, AclPermissionType.DENY),
                (AclOperation.ALL, AclPermissionType.ALLOW),
            )
        ]
        for done in admin.create_acls(bindings).values():
            done.result(RECOVERY_S)
        time.sleep(OUTAGE_S)
        anything = AclBindingFilter(
            ResourceType.TOPIC,
            topics.scores,
            ResourcePatternType.LITERAL,
            None,
            None,
            AclOperation.ANY,
            AclPermissionType.ANY,
        )
        for gone in admin.delete_acls([anything]).values():
            gone.result(RECOVERY_S)

    return _outage(chaos, "output_forbidden", forbid)


def _broker(chaos: Chaos, name: str, end: Callable[[], None]) -> list[Figure]:
    def outage(_: Topics) -> None:
        end()
        time.sleep(OUTAGE_S)
        chaos.bench.broker.start()

    return _outage(chaos, name, outage)


def _outage(chaos: Chaos, name: str, outage: Callable[[Topics], None], *, by_proxy: bool = False) -> list[Figure]:
    with chaos.scene(name, broker_by_proxy=by_proxy) as scene:

        def meanwhile() -> None:
            time.sleep(BETWEEN_S)
            outage(scene.topics)
            time.sleep(BETWEEN_S)

        report = scene.traffic(meanwhile)
        recovery = scene.seconds_to_recover()
        # The scorer must recover without a restart.
        clean = scene.scorer.stop() == 0
    duplicates = chaos.settings.guarantee == "at_least_once"
    return [
        *delivered(report, duplicates=duplicates),
        Figure("seconds_to_recover", recovery, "s", "<=", RECOVERY_S),
        Figure("clean_end", float(clean), "", ">=", 1),
    ]
