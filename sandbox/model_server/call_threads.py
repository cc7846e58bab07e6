"""The threads of the gRPC calls.

A call that finds none free is rejected at once, as by tensorflow_model_server.
"""

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, NoReturn, ParamSpec, TypeVar

import grpc

_P = ParamSpec("_P")
_T = TypeVar("_T")
_TEXT = "Server Threadpool Exhausted"


class CallThreads(ThreadPoolExecutor):
    """Threads that run at most `grpc_max_threads` - 1 calls at the same time.

    The real server needs one of its threads to wait for calls. `is_full` and `submit` are called by one thread.

    Invariants:
    - A submitted call never waits for the end of another call.
    - A call occupies its thread from its arrival until its answer is sent.
    """

    def __init__(self, grpc_max_threads: int) -> None:
        self._limit = max(grpc_max_threads - 1, 1)
        super().__init__(self._limit, thread_name_prefix="grpc")
        self._lock = threading.Lock()
        self._active = 0

    @property
    def is_full(self) -> bool:
        return self._active >= self._limit

    def submit(self, fn: Callable[_P, _T], /, *args: _P.args, **kwargs: _P.kwargs) -> Future[_T]:
        """Runs `fn` in a thread of its own."""
        with self._lock:
            self._active += 1
        return super().submit(self._run, fn, *args, **kwargs)

    def _run(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Any:
        try:
            return fn(*args, **kwargs)
        finally:
            with self._lock:
                self._active -= 1


class RejectWhenFull(grpc.ServerInterceptor):  # type: ignore[type-arg]  # generic only in its stubs
    """Rejects a call that finds no free thread, without reading its message."""

    def __init__(self, threads: CallThreads) -> None:
        self._threads = threads
        # Streams of messages: grpc then calls the function before it has received one.
        self._rejection = grpc.stream_unary_rpc_method_handler(_Rejecting())

    def intercept_service(self, continuation: Callable[[Any], Any], handler_call_details: Any) -> Any:
        """The handler of the call; None for an unknown method."""
        handler = continuation(handler_call_details)
        return self._rejection if self._threads.is_full and handler is not None else handler


class _Rejecting:
    """Ends each call with RESOURCE_EXHAUSTED, in a thread that runs nothing else."""

    def __init__(self) -> None:
        # grpc runs a function that has this attribute in these threads.
        self.experimental_thread_pool = ThreadPoolExecutor(1, thread_name_prefix="reject")

    def __call__(self, _messages: Iterator[bytes], context: grpc.ServicerContext) -> NoReturn:
        context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, _TEXT)
