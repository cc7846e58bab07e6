"""Checks of topics, group and clocks."""

from collections.abc import Iterator

from streamer.diagnosis.facts import KafkaFacts, TopicFacts
from streamer.diagnosis.findings import Finding, Severity
from streamer.settings import Settings

_RESTART_MS = 60_000
"""Time in which a crashed worker is back: image, process start, model, group."""
_DAY_MS = 86_400_000
_AHEAD_MS = 1000.0


def kafka_findings(settings: Settings, facts: KafkaFacts, workers: int) -> Iterator[Finding]:
    """The findings; `workers` is the number of processes that read."""
    source, sink, topics = settings.source, settings.sink, facts.topics
    for name, topic in topics.items():
        if topic is None:
            remedy = "run `streamer topics create`, or grant Describe"
            yield Finding("error", f"topic {name}", "it does not exist, or is hidden from this user", remedy)
        else:
            if not topic.config:
                reason = "this user may not read its configuration, so retention and sizes were not checked"
                yield Finding("advice", f"topic {name}", reason, "grant DescribeConfigs on the topic, and ask again")
            yield from _durability(settings, f"topic {name}", topic, facts.brokers)
    requests, answers, dead = (topics.get(name) for name in (source.topic, sink.topic, sink.dead_letter_topic))
    if requests is not None:
        yield from _requests(settings, requests, workers, facts.members)
    if answers is not None:
        yield from _retention(f"topic {sink.topic}", answers, _RESTART_MS, "a ranker that restarts")
        yield from _size("sink.max_request_bytes", f"topic {sink.topic}", answers, sink.max_request_bytes)
        if requests is not None and answers.partitions < requests.partitions:
            reason = (
                f"{answers.partitions} partitions, requests have {requests.partitions}: fewer rankers can share them"
            )
            yield Finding("warning", f"topic {sink.topic}", reason, f"give it {requests.partitions} partitions")
    if dead is not None:
        yield from _retention(f"topic {sink.dead_letter_topic}", dead, _DAY_MS, "a person who looks at dead letters")
    if settings.ads.topic is not None and (ads := topics.get(settings.ads.topic)) is not None:
        yield from compaction(settings.ads.topic, ads)
    yield from _clocks(settings, facts)


def compaction(name: str, topic: TopicFacts) -> Iterator[Finding]:
    """The finding that a topic of ads loses ads that do not change."""
    policy = topic.config.get("cleanup.policy", "compact")
    if policy == "compact":
        return
    if "compact" in policy:
        reason = f"cleanup.policy is {policy}: ads that do not change for retention.ms are missing after the next load"
        yield Finding("warning", f"topic {name}", reason, "set cleanup.policy=compact")
    else:
        reason = f"cleanup.policy is {policy}: the topic loses ads, or keeps all of their changes"
        yield Finding("error", f"topic {name}", reason, "set cleanup.policy=compact")


def _requests(settings: Settings, topic: TopicFacts, workers: int, members: int | None) -> Iterator[Finding]:
    name = f"topic {settings.source.topic}"
    if topic.partitions < workers:
        reason = (
            f"{topic.partitions} partitions for {workers} workers: {workers - topic.partitions} of them get no requests"
        )
        yield Finding("error", name, reason, f"add partitions, at least {workers}, or run fewer workers")
    elif topic.partitions % workers:
        reason = f"{topic.partitions} partitions for {workers} workers: some get one partition more than others"
        yield Finding("warning", name, reason, "use a multiple of the number of workers")
    if members is not None and members > topic.partitions:
        reason = f"{members} members share {topic.partitions} partitions of {name}"
        yield Finding("warning", f"group {settings.kafka.group_id}", reason, "add partitions, or run fewer processes")
    needed = max(settings.source.max_budget_ms, settings.kafka.session_timeout_ms) + _RESTART_MS
    yield from _retention(name, topic, round(needed), "a worker that restarts, and a backlog")
    yield from _size("codec.max_record_bytes", name, topic, settings.codec.max_record_bytes)
    if "compact" in topic.config.get("cleanup.policy", ""):
        reason = "cleanup.policy has `compact`: older requests of the same key are deleted unanswered"
        yield Finding("error", name, reason, "set cleanup.policy=delete")


def _retention(name: str, topic: TopicFacts, needed_ms: int, reader: str) -> Iterator[Finding]:
    found = topic.config.get("retention.ms")
    if found is not None and 0 <= int(found) < needed_ms:
        reason = f"retention.ms is {found}: {reader}, needs {needed_ms}; records are deleted before they are read"
        yield Finding("warning", name, reason, f"set retention.ms to at least {needed_ms}")


def _size(setting: str, name: str, topic: TopicFacts, needed: int) -> Iterator[Finding]:
    found = topic.config.get("max.message.bytes")
    if found is not None and int(found) < needed:
        reason = f"max.message.bytes is {found}, {setting} is {needed}: brokers reject records between the two"
        yield Finding("warning", name, reason, f"set max.message.bytes to {needed}, or lower {setting}")


def _durability(settings: Settings, name: str, topic: TopicFacts, brokers: int) -> Iterator[Finding]:
    if settings.delivery.guarantee == "at_most_once":
        return
    promised = f"delivery.guarantee is {settings.delivery.guarantee}"
    in_sync = int(topic.config.get("min.insync.replicas", "0"))  # 0: unknown
    if topic.replicas == 1:
        severity: Severity = "warning" if brokers > 1 else "advice"
        reason = (
            f"one copy of each partition on {brokers} broker{'s' * (brokers > 1)}: its loss loses records; {promised}"
        )
        yield Finding(severity, name, reason, "use 3 replicas and min.insync.replicas=2")
    elif in_sync > topic.replicas:
        reason = f"min.insync.replicas is {in_sync}, there are {topic.replicas} replicas: brokers accept no record"
        yield Finding("error", name, reason, f"set min.insync.replicas to {topic.replicas - 1}")
    elif in_sync == topic.replicas:
        reason = f"min.insync.replicas equals the {topic.replicas} replicas: one stopped broker stops writing"
        yield Finding("warning", name, reason, "add a replica, or lower min.insync.replicas by one")
    elif in_sync == 1:
        reason = f"min.insync.replicas is 1: an acknowledged record can be lost with one broker; {promised}"
        yield Finding("warning", name, reason, "set min.insync.replicas=2")
    if topic.config.get("unclean.leader.election.enable") == "true":
        reason = f"unclean.leader.election.enable is true: acknowledged records can be lost; {promised}"
        yield Finding("warning", name, reason, "set unclean.leader.election.enable=false")


def _clocks(settings: Settings, facts: KafkaFacts) -> Iterator[Finding]:
    if settings.source.deadline_from != "record":
        return
    remedy = "synchronise the clocks (NTP), or set source.deadline_from: arrival"
    budget_ms = settings.source.budget_ms
    if facts.ahead_ms is not None and facts.ahead_ms > _AHEAD_MS:
        reason = (
            f"the newest request's timestamp is {facts.ahead_ms:.0f} ms ahead of this machine: it gets too much time"
        )
        yield Finding("error", "clocks", reason, remedy)
    if facts.age_ms is not None and facts.age_ms > budget_ms / 2:
        severity: Severity = "error" if facts.age_ms > budget_ms else "warning"
        reason = (
            f"requests arrive at least {facts.age_ms:.0f} ms after their timestamps, source.budget_ms is {budget_ms:g}:"
            f" a clock is behind, or producers hold records (linger.ms)"
        )
        yield Finding(severity, "clocks", reason, remedy)
