"""A consumer group in memory, with the methods of aiokafka's consumer that the scorer uses.

`tests/streamer/testing/test_consumer_group.py` runs one suite on it and on the real client.
"""

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from functools import partial

from aiokafka import ConsumerRebalanceListener, ConsumerRecord, TopicPartition
from aiokafka.errors import IllegalStateError, KafkaError, OffsetOutOfRangeError
from aiokafka.structs import OffsetAndTimestamp

from streamer.kafka.record_batches import DamagedLog
from streamer.types import Partition

_record = partial(ConsumerRecord, timestamp_type=0, checksum=None, serialized_key_size=-1)


class FakeGroup:
    """One topic's log, the group's commits and its members.

    A rebalance is eager: all members revoke their partitions, then all get new ones.
    """

    def __init__(self, topic: str, partitions: int) -> None:
        self.tops = [TopicPartition(topic, number) for number in range(partitions)]
        self.logs: dict[TopicPartition, list[ConsumerRecord]] = {top: [] for top in self.tops}
        self.firsts = dict.fromkeys(self.tops, 0)
        self.markers: set[tuple[TopicPartition, int]] = set()
        self.topic_id = 1
        self.damaged: dict[TopicPartition, int] = {}
        """Offsets from which a partition cannot be read."""
        self.commits: dict[TopicPartition, tuple[int, str]] = {}
        self.appended = asyncio.Event()
        self._rebalancing = asyncio.Lock()
        self.members: list[FakeConsumer] = []

    def produce(
        self,
        number: int,
        value: bytes | None,
        timestamp_ms: int = 0,
        headers: Sequence[tuple[str, bytes | None]] = (),
        key: bytes | None = None,
    ) -> None:
        """Appends a record to a partition; `timestamp_ms` is -1 if its producer set none."""
        top, size = self.tops[number], -1 if value is None else len(value)
        log = self.logs[top]
        found = {"key": key, "value": value, "headers": headers, "serialized_value_size": size}
        log.append(_record(*top, len(log), timestamp_ms, **found))
        self.appended.set()

    def end_transaction(self, number: int) -> None:
        """Appends the end of a transaction: an offset without a record for consumers."""
        top = self.tops[number]
        self.markers.add((top, len(self.logs[top])))
        self.produce(number, b"")

    def add_partition(self) -> None:
        """Adds a partition to the topic. `rebalance` assigns it."""
        self.tops.append(top := TopicPartition(self.tops[0].topic, len(self.tops)))
        self.logs[top], self.firsts[top] = [], 0

    def truncate(self, number: int, end: int) -> None:
        """Drops the last records of a partition, as the election of an unclean leader does."""
        del self.logs[self.tops[number]][end:]

    def recreate(self) -> None:
        """Deletes the topic with the group's commits, and creates it again."""
        self.topic_id += 1
        self.commits.clear()
        self.markers.clear()
        for top in self.tops:
            self.logs[top], self.firsts[top] = [], 0

    async def topic_now(self, _: float) -> int:
        """As `streamer.kafka.topic_ids.topic_fingerprint`."""
        return self.topic_id

    def delete_before(self, number: int, offset: int) -> None:
        """Deletes the first records of a partition, as a topic's retention does."""
        self.firsts[self.tops[number]] = offset

    def plain_commit(self, number: int) -> tuple[int, str]:
        """A partition's commit with the words of its metadata, without the evidence."""
        offset, metadata = self.commits[self.tops[number]]
        return offset, " ".join(metadata.split())

    async def commits_of(self, partitions: Iterable[Partition], _: float = 0.0) -> Mapping[Partition, tuple[int, str]]:
        """As `streamer.kafka.groups.commits_of`."""
        wanted = set(partitions)
        return {(top.topic, top.partition): at for top, at in self.commits.items() if tuple(top) in wanted}

    def commit(self, offsets: Mapping[TopicPartition, tuple[int, str]]) -> None:
        """Stores a member's commit."""
        self.commits.update(offsets)

    async def rebalance(self, members: "Iterable[FakeConsumer]") -> None:
        """Revokes all partitions and assigns them to these members, round robin."""
        async with self._rebalancing:
            before, self.members = self.members, list(members)
            await asyncio.gather(*(member.revoke() for member in {*before, *self.members}))
            count = len(self.members)
            await asyncio.gather(*(member.take(self.tops[i::count]) for i, member in enumerate(self.members)))


class FakeConsumer:
    """One member. During a revocation it may commit for its partitions, and receives no records.

    With `is_member=False` it belongs to no group: `assign` gives it partitions.
    """

    def __init__(self, group: FakeGroup, *, is_member: bool = True) -> None:
        self._group = group
        self._is_member = is_member
        self.is_started = False
        self._listener: ConsumerRebalanceListener | None = None
        self._positions: dict[TopicPartition, int] = {}
        self._high: dict[TopicPartition, int] = {}
        self._polled: dict[TopicPartition, int] = {}
        self._paused: set[TopicPartition] = set()
        self._is_revoking = False
        self.is_cut_off = False
        """No broker answers: `getmany` returns nothing and raises nothing, as the real client."""
        self.failures: list[KafkaError] = []
        """Raised by the next calls of `getmany` that find records. These records are lost until a `seek`.

        The real client does this when the records of one of the partitions cannot be read.
        """

    def subscribe(self, topics: Iterable[str], *, listener: ConsumerRebalanceListener | None = None) -> None:
        self._listener = listener

    async def start(self) -> None:
        self.is_started = True
        if self._is_member:
            await self._group.rebalance([*self._group.members, self])

    async def stop(self) -> None:
        """Leaves the group; the partitions are lost without a callback."""
        self.is_started = False
        self.lose()
        if self._is_member:
            await self._group.rebalance([member for member in self._group.members if member is not self])

    def assign(self, tops: Iterable[TopicPartition]) -> None:
        """Replaces the partitions of a consumer without a group; each needs a `seek`."""
        self.lose()
        self._positions = dict.fromkeys(tops, 0)

    def assignment(self) -> set[TopicPartition]:
        return set(self._positions)

    def partitions_for_topic(self, topic: str) -> set[int]:
        return {top.partition for top in self._group.tops}

    def last_poll_timestamp(self, top: TopicPartition) -> int | None:
        """Time of the partition's last fetch in milliseconds, by the event loop's clock."""
        return self._polled.get(top)

    def highwater(self, top: TopicPartition) -> int | None:
        return self._high.get(top)

    # Its transactions end at once.
    last_stable_offset = highwater

    def pause(self, *tops: TopicPartition) -> None:
        self._check(tops)
        self._paused.update(tops)

    def paused(self) -> set[TopicPartition]:
        return set(self._paused)

    def resume(self, *tops: TopicPartition) -> None:
        self._check(tops)
        self._paused.difference_update(tops)

    def seek(self, top: TopicPartition, offset: int) -> None:
        self._check([top])
        self._positions[top] = offset

    async def position(self, top: TopicPartition) -> int:
        self._check([top])
        return self._positions[top]

    async def beginning_offsets(self, tops: Iterable[TopicPartition]) -> dict[TopicPartition, int]:
        return {top: self._group.firsts[top] for top in tops}

    async def end_offsets(self, tops: Iterable[TopicPartition]) -> dict[TopicPartition, int]:
        return {top: len(self._group.logs[top]) for top in tops}

    async def offsets_for_times(
        self, timestamps: Mapping[TopicPartition, int]
    ) -> dict[TopicPartition, OffsetAndTimestamp | None]:
        def first(top: TopicPartition, at_ms: int) -> OffsetAndTimestamp | None:
            records = self._group.logs[top][self._group.firsts[top] :]
            return next((OffsetAndTimestamp(r.offset, r.timestamp) for r in records if r.timestamp >= at_ms), None)

        return {top: first(top, at_ms) for top, at_ms in timestamps.items()}

    async def commit(self, offsets: Mapping[TopicPartition, tuple[int, str]]) -> None:
        self._check(offsets)
        await asyncio.sleep(0)
        self._group.commit(offsets)

    async def getmany(self, *, timeout_ms: int, max_records: int) -> dict[TopicPartition, list[ConsumerRecord]]:
        found = self._take(max_records)
        if not found:
            self._group.appended.clear()
            # Not `wait_for`: it loses a cancellation that arrives together with a record.
            with suppress(TimeoutError):
                async with asyncio.timeout(timeout_ms / 1e3):
                    await self._group.appended.wait()
            found = self._take(max_records)
        if found and self.failures:
            raise self.failures.pop(0)
        return found

    async def revoke(self) -> None:
        """Calls the listener, then releases all partitions."""
        self._is_revoking = True
        if self._listener is not None:
            await self._listener.on_partitions_revoked(self.assignment())
        self.lose()

    async def take(self, tops: Iterable[TopicPartition]) -> None:
        """Assigns these partitions; they are read from the group's commits on."""
        self._positions = {top: self._group.commits.get(top, (0, ""))[0] for top in tops}
        self._is_revoking = False
        if self._listener is not None:
            await self._listener.on_partitions_assigned(self.assignment())
        self._group.appended.set()

    def lose(self) -> None:
        """Loses all partitions without a callback."""
        self._positions, self._high, self._polled, self._paused = {}, {}, {}, set()

    def _take(self, most: int) -> dict[TopicPartition, list[ConsumerRecord]]:
        found: dict[TopicPartition, list[ConsumerRecord]] = {}
        for top, position in self._positions.items():
            if self._is_revoking or self.is_cut_off or not most or top in self._paused:
                continue
            log, damage = self._group.logs[top], self._group.damaged.get(top)
            if not self._group.firsts[top] <= position <= len(log):
                if found:
                    continue
                raise OffsetOutOfRangeError({top: position})
            if position == damage:
                found[top] = [DamagedLog(*top, damage, -1, 0, None, None, None, -1, -1, (), "damaged")]
                most -= 1
                continue
            records = log[position : position + most][: None if damage is None else max(0, damage - position)]
            self._positions[top], self._high[top] = position + len(records), len(log)
            self._polled[top] = round(asyncio.get_running_loop().time() * 1e3)
            if received := [r for r in records if (top, r.offset) not in self._group.markers]:
                found[top] = received
                most -= len(received)
        return found

    def _check(self, tops: Iterable[TopicPartition]) -> None:
        for top in tops:
            if top not in self._positions:
                raise IllegalStateError(f"Partition {top} is not assigned")
