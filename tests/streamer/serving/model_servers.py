"""Real gRPC and REST servers in the process of the test, with configurable replies and faults."""

import asyncio
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

import grpc
import grpc.aio
import numpy as np

from sandbox.model_server.replies import Context, handlers
from streamer.serving.replies import metadata_reply, scores_reply, spec_reply, status_reply
from tests.streamer.serving.rest_front import rest_server


def scores_by_id(request: Any) -> Any:
    """The reply with a different score for each candidate: id / 1e6."""
    ids = np.frombuffer(request.inputs["candidate_ids"].tensor_content, np.int32)
    return scores_reply((ids / np.float32(1e6)).astype(np.float32))


def low(request: Any) -> Any:
    """The reply with a score of 2 % for each candidate."""
    rows = request.inputs["candidate_ids"].tensor_shape.dim[0].size
    return scores_reply(np.full(rows, 0.02, np.float32))


@dataclass
class Server:
    """One model server.

    Attributes:
        protocol: of all servers of a test.
        answer: builds the reply to a Predict request, or the status with which every call fails.
        spec: JSON; every version has the signatures `feature_spec` and `score` of this spec.
        hangs: Predict calls set `hung` and wait until `hang` is set.
        silent: GetModelStatus calls do, too.
        busy, broken: Predict calls fail with RESOURCE_EXHAUSTED or INTERNAL.
        strict: Predict calls for versions that are not in `versions` fail with NOT_FOUND.
        signatures: a GetModelMetadataResponse to return instead of that of `spec`.
        labels: versions by label.
        credentials: for TLS; a context with `rest`.
        address: where it runs, or ran; "" before its first start, which takes a free port.
    """

    protocol: ClassVar[Literal["grpc", "rest"]] = "grpc"
    answer: Callable[[Any], Any] | grpc.StatusCode = scores_by_id
    versions: tuple[int, ...] = (3,)
    spec: str | None = None
    calls: int = 0
    hang: asyncio.Event = field(default_factory=asyncio.Event)
    hangs: bool = False
    hung: asyncio.Event = field(default_factory=asyncio.Event)
    silent: bool = False
    busy: bool = False
    strict: bool = False
    broken: bool = False
    signatures: Any = None
    labels: dict[str, int] = field(default_factory=dict)
    credentials: grpc.ServerCredentials | ssl.SSLContext | None = None
    address: str = ""

    async def predict(self, request: Any, context: Context) -> Any:
        if self.strict and request.model_spec.version.value not in self.versions:
            await context.abort(grpc.StatusCode.NOT_FOUND, "no such version")
        if request.model_spec.signature_name == "feature_spec":
            return spec_reply(self.spec or "")
        self.calls += 1
        if self.busy:
            await context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, "busy")
        if self.broken:
            await context.abort(grpc.StatusCode.INTERNAL, "injected fault")
        if self.hangs:
            self.hung.set()
            await self.hang.wait()
        if isinstance(self.answer, grpc.StatusCode):
            await context.abort(self.answer, "injected fault")
        return self.answer(request)

    async def metadata(self, request: Any, context: Context) -> Any:
        if isinstance(self.answer, grpc.StatusCode):
            await context.abort(self.answer, "injected fault")
        if self.spec is None:
            await context.abort(grpc.StatusCode.NOT_FOUND, "no such model")
        version = request.model_spec.version.value
        if label := request.model_spec.version_label:
            if label not in self.labels:
                await context.abort(grpc.StatusCode.INVALID_ARGUMENT, f"Unrecognized servable version label: {label}")
            version = self.labels[label]
            if version not in self.versions:
                await context.abort(grpc.StatusCode.NOT_FOUND, "no such version")
        reply = self.signatures or metadata_reply(self.spec or "")
        reply.model_spec.version.value = version
        return reply

    async def status(self, _: Any, context: Context) -> Any:
        if self.silent:
            await self.hang.wait()
        if isinstance(self.answer, grpc.StatusCode):
            await context.abort(self.answer, "injected fault")
        return status_reply(self.versions)

    @asynccontextmanager
    async def running(self) -> AsyncIterator["Server"]:
        if self.protocol == "rest":
            assert not isinstance(self.credentials, grpc.ServerCredentials)
            async with rest_server(self, self.address, self.credentials) as self.address:
                yield self
                self.hang.set()
            return
        assert not isinstance(self.credentials, ssl.SSLContext)
        server = grpc.aio.server()
        server.add_generic_rpc_handlers(handlers(self))
        address = self.address or "127.0.0.1:0"
        port = (
            server.add_insecure_port(address)
            if self.credentials is None
            else server.add_secure_port(address, self.credentials)
        )
        self.address = f"127.0.0.1:{port}"
        await server.start()
        try:
            yield self
        finally:
            self.hang.set()
            await server.stop(0)
