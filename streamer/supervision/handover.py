"""Hands the models' orders over to the processes that lack them."""

import asyncio
from collections.abc import Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec
from structlog.typing import FilteringBoundLogger

from streamer.rollout.orders import ModelOrders
from streamer.supervision import messages as m
from streamer.supervision.fleet import Fleet
from streamer.supervision.kept_orders import KeptOrders

_WITHIN_S = 30.0
_ANSWER_S = 30.0
_RETRY_S = 1.0
_LATE_RETRY_S = 10.0


@dataclass(slots=True, eq=False)
class _Process:
    """One process that can take orders.

    Attributes:
        told: the orders that were handed over last.
        task: hands orders over at the moment.
        sent: the number of the last handover.
        received: the number of the last handover that it has answered.
        answer: its answer to the last handover, while `task` waits for it.
    """

    send: Callable[[m.ToWorker], None]
    told: tuple[ModelOrders, ...] | None = None
    task: asyncio.Task[None] | None = None
    sent: int = 0
    received: int = 0
    answer: asyncio.Future[m.Adopted] | None = None


class Handover:
    """Keeps operators' orders and guards' rollbacks; gives them to processes without them.

    1. A new process becomes ready when it has the orders. If it cannot take them for 30 s, it becomes ready without
       them as soon as no other worker is ready, and gets them later.
    2. A standby gets the orders that an active worker has and it has not; an active worker gets those that it rejected
       while another one accepted them. A guard's rollback moves no other active worker: each has a guard of its own.
    3. An operator's command and a handover never overlap: both have the `turn`.
    """

    def __init__(
        self,
        fleet: Fleet,
        spawn: Callable[[Coroutine[Any, Any, None], str], asyncio.Task[None]],
        log: FilteringBoundLogger,
    ) -> None:
        self.turn = asyncio.Lock()
        self._fleet = fleet
        self._spawn = spawn
        self._log = log
        self._kept = KeptOrders()
        self._processes: dict[int, _Process] = {}
        self._rejecting: set[int] = set()

    def prepared(self, number: int, send: Callable[[m.ToWorker], None], ready: Callable[[], None]) -> None:
        """A new process has prepared its models; calls `ready` when it has the orders."""
        process = self._processes[number] = _Process(send)
        if not self._kept.all:
            ready()
            return
        process.task = self._spawn(self._tell(number, process, ready), f"orders of worker {number}")

    def reported(self, number: int, models: Sequence[ModelOrders]) -> None:
        """A worker has these orders; it gets those that it lacks."""
        process = self._processes.get(number)
        # While it takes orders over, a change in its report may be no new order.
        if process is None or process.received < process.sent:
            return
        phase = self._fleet.workers[number].phase
        self._kept.reported(number, models, is_active=phase == "active")
        must_follow = phase == "standby" or (phase == "active" and number in self._rejecting)
        if must_follow and process.task is None and process.told != self._kept.all and self._kept.lacks(number):
            process.task = self._spawn(self._tell(number, process), f"orders of worker {number}")

    def executed(self, accepted: Mapping[int, str], rejected: Sequence[int]) -> None:
        """The workers have executed a command.

        Args:
            accepted: the models as each worker describes them after the command, JSON.
            rejected: the workers that did not execute it.
        """
        for number, text in accepted.items():
            worker = self._fleet.workers.get(number)
            models = msgspec.json.decode(text, type=list[ModelOrders])
            self._kept.reported(number, models, is_active=worker is not None and worker.phase == "active")
            if worker is None:
                self._kept.ended(number)
        if accepted:
            self._rejecting |= set(rejected)

    def answered(self, number: int, message: m.Adopted) -> None:
        """A process has taken orders over, or could not."""
        process = self._processes.get(number)
        if process is None:
            return
        process.received = message.id
        self._kept.adopted(number, message.models)
        if process.answer is not None and not process.answer.done() and process.sent == message.id:
            process.answer.set_result(message)

    def ended(self, number: int) -> None:
        """The process of a worker has ended."""
        process = self._processes.pop(number, None)
        if process is not None and process.task is not None:
            process.task.cancel()
        self._kept.ended(number)
        self._rejecting.discard(number)

    async def _tell(self, number: int, process: _Process, ready: Callable[[], None] | None = None) -> None:
        loop = asyncio.get_running_loop()
        late_at, is_late = loop.time() + _WITHIN_S, False
        while error := await self._hand_over(process):
            if loop.time() >= late_at and not is_late:
                orders = msgspec.to_builtins(self._kept.all)
                self._log.error("worker cannot take the orders over", worker=number, error=error, orders=orders)
                is_late = True
            if is_late and ready is not None and not self._fleet.in_phase("active", "standby"):
                ready()
                ready = None
            await asyncio.sleep(_LATE_RETRY_S if is_late and ready is None else _RETRY_S)
        process.task = None
        self._rejecting.discard(number)
        if ready is not None:
            ready()

    async def _hand_over(self, process: _Process) -> str:
        """Hands all orders over once; returns why the process lacks some, or nothing."""
        try:
            # The turn is a part of this time: a command to a process that hangs takes longer.
            async with asyncio.timeout(_ANSWER_S), self.turn:
                orders = self._kept.all
                process.sent += 1
                process.answer = asyncio.get_running_loop().create_future()
                process.send(m.Adopt(process.sent, list(orders)))
                adopted = await process.answer
        except TimeoutError:
            return f"not within {_ANSWER_S:.0f} s"
        finally:
            process.answer = None
        if adopted.error:
            return adopted.error
        process.told = orders
        return "" if self._kept.all == orders else "the orders have changed"
