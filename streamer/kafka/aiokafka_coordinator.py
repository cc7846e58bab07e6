"""A group coordinator for aiokafka that corrects its faults.

Each override names its fault, as of aiokafka 0.14.

aiokafka's heartbeats (v1) and commits (v3) carry no instance id. So a member whose static name another process has
taken is told UNKNOWN_MEMBER_ID, as is one whose session has expired.
"""

import asyncio
import logging
from typing import Any

from aiokafka.client import ConnectionGroup
from aiokafka.consumer.group_coordinator import GroupCoordinator
from aiokafka.errors import (
    CommitFailedError,
    GroupAuthorizationFailedError,
    GroupLoadInProgressError,
    IncompatibleBrokerVersion,
    InconsistentGroupProtocolError,
    InvalidGroupIdError,
    InvalidSessionTimeoutError,
    KafkaError,
    NotCoordinatorForGroupError,
    RebalanceInProgressError,
    UnknownMemberIdError,
    for_code,
)
from aiokafka.protocol.group import JoinGroupRequest, LeaveGroupRequest

from streamer.kafka import rejections
from streamer.kafka.described_group import DescribedGroup, DescribeGroup

_log = logging.getLogger("aiokafka.consumer.group_coordinator")
_GROUP_MAX_SIZE_REACHED = 81
_FENCED_INSTANCE_ID = 82


class MemberRejectedError(KafkaError):  # type: ignore[misc]  # aiokafka has no types
    """The group rejects this member, and will do so again. Next: stop."""

    def __str__(self) -> str:
        return str(self.args[0])


class InstanceReplacedError(MemberRejectedError):
    """Another process has taken this member's group instance id. Next: stop, and never rejoin."""

    def __init__(self, instance_id: str, by: str) -> None:
        super().__init__(instance_id, by)

    def __str__(self) -> str:
        instance_id, by = self.args
        return f"kafka.group_instance_id: another process has taken the name {instance_id!r} ({by})"


class MemberCoordinator(GroupCoordinator):  # type: ignore[misc]
    """The member's side of the group protocol.

    1. A static name belongs to the process that joined last. The one before raises `InstanceReplacedError` to its user
       and does not rejoin.
    2. A static member whose session has expired rejoins.
    3. `close` leaves the group at once, with and without a static name.
    4. Every member notices added partitions. Missing metadata causes no rejoin.
    5. A commit without a membership fails.
    6. A member that the group rejects raises `MemberRejectedError`, which names the setting, to its user.
    """

    def __init__(self, *args: Any, **options: Any) -> None:
        self._replaced: InstanceReplacedError | None = None
        self._join_code = 0
        self._lost_id = ""
        """The last member id, from the loss of the membership until it is clear that nobody has taken the name."""
        self._is_joining = False
        self._group_subscription: set[str] | None = None
        self._metadata_snapshot: dict[str, int] = {}
        super().__init__(*args, **options)

    def reset_generation(self) -> None:
        self._lost_id = self.member_id or self._lost_id
        super().reset_generation()

    async def ensure_active_group(self, subscription: Any, prev_assignment: Any) -> Any:
        """Rejoins unless another process has taken the name.

        Faults:
        - A replaced static member rejoins and takes its name back; then the other member does the same.
        - A rejection names neither the setting nor its limit.
        """
        if self._group_instance_id is not None:
            if self._lost_id:
                await self._check_name()
            if self._replaced is not None:
                raise self._replaced
            if self._lost_id:
                await asyncio.sleep(self._retry_backoff_ms / 1e3)
                return None
        try:
            return await super().ensure_active_group(subscription, prev_assignment)
        except KafkaError as error:
            if (reason := await self._rejection(error)) is None:
                raise
            raise MemberRejectedError(reason) from error

    async def _rejection(self, error: KafkaError) -> str | None:
        match error:
            case InvalidSessionTimeoutError():
                limits = await rejections.limits_of(self._client, self.coordinator_id)
                return rejections.session_timeout(self._session_timeout_ms, limits)
            case InconsistentGroupProtocolError():
                group = await self._described_group()
                return rejections.other_members(self.group_id, self._assignors[0].name, group)
            case InvalidGroupIdError():
                return f"kafka.group_id: the brokers accept no group of the name {self.group_id!r}"
            case _ if self._join_code == _GROUP_MAX_SIZE_REACHED:
                return f"kafka.group_id: group {self.group_id!r} has all the members that group.max.size allows"
        return None

    async def _check_name(self) -> None:
        """Asks who has the name, and clears `_lost_id` unless that is another member or unknown.

        Only the first attempt to rejoin asks: if the response to that attempt is lost, the group has a member of this
        name whose id is unknown here, and which is this process.
        """
        group = await self._described_group()
        if group is None:
            return
        for member in group.members:
            if member.instance_id == self._group_instance_id and member.member_id != self._lost_id:
                self._replaced = InstanceReplacedError(self._group_instance_id, member.client)
        self._lost_id = ""

    async def _described_group(self) -> DescribedGroup | None:
        """The group's members; None if the coordinator cannot answer now.

        Raises:
            KafkaError: a right is missing, or the brokers are older than Kafka 2.4.
        """
        try:
            group = DescribedGroup.of(await self._send_req(DescribeGroup(self.group_id)))
        except NotImplementedError as error:
            raise IncompatibleBrokerVersion("static members need Kafka 2.4 or later") from error
        except KafkaError:
            return None
        if group.error_code == 0:
            return group
        reason = for_code(group.error_code)
        if reason is GroupAuthorizationFailedError:
            raise reason(self.group_id)
        if reason is NotCoordinatorForGroupError:
            self.coordinator_dead()
        return None

    async def _send_req(self, request: Any) -> Any:
        """Translates two error codes.

        Fault: aiokafka makes an error of them that ends its user.

        - FENCED_INSTANCE_ID: the membership is lost; `ensure_active_group` finds the reason.
        - REBALANCE_IN_PROGRESS to a JoinGroup: the broker could not store the member in time. Next: retry.
        """
        response = await super()._send_req(request)
        code = getattr(response, "error_code", 0)
        if isinstance(request, JoinGroupRequest):
            self._join_code = code
        if code == _FENCED_INSTANCE_ID:
            response.error_code = UnknownMemberIdError.errno
        elif code == RebalanceInProgressError.errno and isinstance(request, JoinGroupRequest):
            response.error_code = GroupLoadInProgressError.errno
        return response

    async def close(self) -> None:
        """Leaves the group also during a rebalance.

        Fault: a member that stops during a rebalance waits for the other members, and may end before it leaves. The
        group then gives it partitions, which nobody reads until its session expires.
        """
        if self._is_joining and self.member_id:
            # A broker answers the requests of a connection one after the other, and that to join is pending.
            await self._leave(ConnectionGroup.DEFAULT)
        await super().close()

    async def _maybe_leave_group(self) -> None:
        """Leaves the group also with a static name.

        Fault: a static member does not leave, and nobody reads its partitions until its session expires. The member id
        suffices for the broker. A replaced member has none any more.
        """
        if self.generation > 0:
            await self._leave(ConnectionGroup.COORDINATION)
        self.reset_generation()

    async def _leave(self, connection: ConnectionGroup) -> None:
        request = LeaveGroupRequest(self.group_id, self.member_id)
        try:
            response = await self._client.send(self.coordinator_id, request, group=connection)
        except KafkaError as error:
            _log.warning("LeaveGroup failed: %s", error)
        else:
            _log.info("LeaveGroup: %s", for_code(response.error_code).__name__)

    async def _do_rejoin_group(self, subscription: Any) -> bool:
        self._is_joining = True
        try:
            return bool(await super()._do_rejoin_group(subscription))
        finally:
            self._is_joining = False

    async def _on_join_complete(self, *joined: Any) -> None:
        self._is_joining = False
        await super()._on_join_complete(*joined)

    async def _do_commit_offsets(self, assignment: Any, offsets: Any) -> None:
        """Commits as a member of the group only.

        Faults:
        - After the loss of the membership aiokafka commits with generation -1, which a broker accepts while the group
          is empty. Such a commit could overwrite a later one of a member that has come and gone.
        - During a join the broker answers ILLEGAL_GENERATION, and aiokafka resets the membership that it is getting.
        """
        if self._subscription.partitions_auto_assigned() and (self._is_joining or self.generation < 0):
            raise CommitFailedError("this process is not a member of the group now")
        await super()._do_commit_offsets(assignment, offsets)

    async def _perform_assignment(self, response: Any) -> Any:
        """Assigns, and keeps the counts of partitions of this assignment, also lower ones."""
        assignments = await super()._perform_assignment(response)
        highest = self._metadata_snapshot
        self._metadata_snapshot = super()._get_metadata_snapshot()
        if self._metadata_snapshot != highest or not all(highest.values()):
            # Metadata are missing, so nobody has some partitions. The update causes a rejoin.
            self._client.force_metadata_update()
        return assignments

    def _get_metadata_snapshot(self) -> dict[str, int]:
        """Numbers of partitions by topic, never lower than before.

        Fault: a topic whose metadata are missing for a moment, as while a broker starts, causes two rebalances.
        """
        counts = super()._get_metadata_snapshot()
        return {topic: max(count, self._metadata_snapshot.get(topic, 0)) for topic, count in counts.items()}

    async def _do_heartbeat(self) -> bool:
        """Sends a heartbeat; after the first one the member watches for added partitions.

        Fault: only the leader watches. A broker's JoinGroup v5 tells a restarted static leader that its old member id
        leads, so then nobody watches. Each member therefore compares the partitions that the group has assigned with
        those of the topic. A rejoin of the leader, also of a restarted one, makes the group rebalance. A rejoin of a
        follower has no effect.
        """
        is_alive = bool(await super()._do_heartbeat())
        if is_alive and self._group_subscription is None and not self._rejoin_needed_fut.done():
            await self._watch_partitions()
        return is_alive

    async def _watch_partitions(self) -> None:
        topics = set(self._subscription.topics)
        try:
            group = await self._described_group()
        except KafkaError as error:
            _log.warning("partitions that were added before this process joined are not noticed: %s", error)
            self._group_subscription = topics
            self._metadata_snapshot = self._get_metadata_snapshot()
            return
        if group is None or not group.is_stable or self._group_subscription is not None:
            return
        # Not below an earlier count: a follower asks only once, although the leader may not have noticed yet.
        self._metadata_snapshot = {
            topic: max(group.partitions_of(topic), self._metadata_snapshot.get(topic, 0)) for topic in topics
        }
        self._group_subscription = topics
        self._handle_metadata_update(self._cluster)
