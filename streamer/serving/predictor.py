"""TensorFlow Serving over grpc.aio: scores, versions, specs. Statuses become typed errors here and nowhere else."""

import asyncio
import time
from collections.abc import Callable, Sequence
from typing import Any

import grpc
import grpc.aio

from streamer.errors import BadReplyError, ConfigError, PredictError, VersionGoneError
from streamer.metrics import Metrics
from streamer.serving.messages import OUTPUT, SPEC, predict_request, read_scores, score_request, specify, tensor_info
from streamer.serving.protos import (
    get_model_metadata_pb2,
    get_model_status_pb2,
    predict_pb2,
)
from streamer.serving.replicas import Replica, Replicas
from streamer.settings.sections import PredictorSettings
from streamer.types import F32, BatchInputs, ModelVersion, SignatureInfo

_PREDICT = "/tensorflow.serving.PredictionService/Predict"
_METADATA = "/tensorflow.serving.PredictionService/GetModelMetadata"
_STATUS = "/tensorflow.serving.ModelService/GetModelStatus"
_MAX_MESSAGE_BYTES = 64 * 2**20
_OPTIONS = (
    # The default back-off grows to 120 s; a server that is back must be used again at once.
    ("grpc.initial_reconnect_backoff_ms", 100),
    # Also how long one attempt to connect may take.
    ("grpc.min_reconnect_backoff_ms", 2000),
    ("grpc.max_reconnect_backoff_ms", 1000),
    ("grpc.max_send_message_length", _MAX_MESSAGE_BYTES),
    ("grpc.max_receive_message_length", _MAX_MESSAGE_BYTES),
    ("grpc.lb_policy_name", "round_robin"),
    ("grpc.keepalive_time_ms", 10_000),
    ("grpc.keepalive_timeout_ms", 5_000),
)


# What says that a server is not well; the rest says something of the request, or of the version.
_UNWELL = frozenset({"UNAVAILABLE", "DEADLINE_EXCEEDED", "RESOURCE_EXHAUSTED", "INTERNAL", "UNKNOWN", "INVALID_REPLY"})


class Predictor:
    """A client of one model on one or several model servers. `score` calls are cheap; control calls are rare.

    Every call has a deadline. A call that fails is tried again on another server, or on the same one if there is no
    other, as far as its time and the retry budget go; a server that keeps failing is left alone for a while. Needs a
    running event loop; one loop a process (a limit of grpc.aio).
    """

    def __init__(
        self, settings: PredictorSettings, metrics: Metrics | None = None, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._settings = settings
        self._metrics = metrics or Metrics()
        self._clock = clock
        options, credentials = _channel_options(settings)
        self._servers = [_Server(address, options, credentials) for address in settings.addresses]
        self._replicas = replicas_of(settings)

    async def score(self, version: ModelVersion, inputs: BatchInputs, seconds: float) -> F32:
        """Click probabilities of n rows.

        Returns:
            float32 [n], all in [0, 1].

        Raises:
            VersionGoneError: no server that answers has this version (any more).
            BadReplyError: the reply's count, dtype or range is wrong.
            PredictError: the servers are unreachable, busy or too slow, or have failed too often of late.
        """
        deadline = self._clock() + seconds
        request, output = self._request(version, inputs)
        tried: set[int] = set()
        failure: PredictError | None = None
        for _ in range(max(2, len(self._servers))):
            left = deadline - self._clock()
            if left <= 0:
                failure = failure or PredictError("DEADLINE_EXCEEDED", "no time was left for the call")
                break
            index = self._replicas.pick(self._clock(), tried)
            if index is None:
                break
            if failure is not None:
                if failure.code in _UNWELL and not self._replicas.may_retry():
                    break
                self._metrics.predict_retries.inc()
            try:
                return await self._score_on(index, request, output, rows=inputs.rows, seconds=left)
            except PredictError as error:
                failure = error
                # One that has not got the version says nothing of the others; a request's own fault follows it.
                if error.code not in _UNWELL and not isinstance(error, VersionGoneError):
                    break
                # With nobody else to ask, the same one is: the connection may be new. Not for a version it has not got.
                if len(self._servers) > 1 or isinstance(error, VersionGoneError):
                    tried.add(index)
        raise failure or PredictError("UNAVAILABLE", "every server has failed too often of late; none is asked")

    async def _score_on(self, index: int, request: Any, output: str, *, rows: int, seconds: float) -> F32:
        """One call of one server, which is judged by it."""
        replicas, server = self._replicas, self._servers[index]
        start = self._clock()
        replicas.started(index)
        try:
            ctr = read_scores(await server.call(server.predict, request, seconds), output, rows)
        except PredictError as error:
            if error.code in _UNWELL:
                replicas.failed(index, self._clock())
            raise
        else:
            replicas.succeeded(index, self._clock() - start)
            return ctr
        finally:
            replicas.ended(index)
            self._metrics.circuit(server.address, is_open=replicas.replicas[index].broken)

    async def available(self, model: str) -> frozenset[int]:
        """The versions that every server which answers calls AVAILABLE.

        Raises:
            VersionGoneError: no server knows the model.
            PredictError: no server can be asked.
        """
        request = get_model_status_pb2.GetModelStatusRequest()
        request.model_spec.name = model
        answered, failures = await self._ask_all(lambda server: server.status, request)
        if not answered:
            raise _most_telling(failures)
        ready = get_model_status_pb2.ModelVersionStatus.AVAILABLE
        return frozenset.intersection(
            *(frozenset(s.version for s in reply.model_version_status if s.state == ready) for reply in answered)
        )

    async def labelled(self, model: str, label: str) -> int:
        """The version that a label leads to on every server that answers.

        Raises:
            PredictError: no server can be asked, one of them has not got the label or its version, or they differ.
        """
        # Not by GetModelStatus: it passes over labels and tells of all versions.
        request = get_model_metadata_pb2.GetModelMetadataRequest()
        request.model_spec.name = model
        request.model_spec.version_label = label
        request.metadata_field.append("signature_def")
        answered, failures = await self._ask_all(lambda server: server.metadata, request)
        refusals = [failure for failure in failures if failure.code not in _UNWELL]
        if refusals or not answered:
            failure = (refusals or failures)[0]
            raise PredictError(failure.code, f"label {label!r} of {model!r}: {failure.detail}")
        versions = sorted({int(reply.model_spec.version.value) for reply in answered})
        if len(versions) > 1:
            differing = ", ".join(map(str, versions))
            raise PredictError("FAILED_PRECONDITION", f"label {label!r} of {model!r} leads to versions {differing}")
        return versions[0]

    async def feature_spec(self, version: ModelVersion) -> str:
        """The spec, as JSON, that the version was trained with: its `feature_spec` signature says so.

        Raises:
            PredictError: the version has no such signature, or the server cannot be asked.
        """
        request = predict_pb2.PredictRequest()
        specify(request.model_spec, version, SPEC)
        reply = await self._control(lambda server: server.predict, request)
        try:
            (value,) = reply.outputs["spec"].string_val
            return bytes(value).decode()
        except ValueError:  # not one value, or no UTF-8
            raise BadReplyError("INVALID_REPLY", f"{version}: its feature_spec signature returned no string") from None

    async def signature(self, version: ModelVersion, name: str) -> SignatureInfo:
        """What a signature of the version takes and gives.

        Raises:
            BadReplyError: the version has no such signature.
            PredictError: the server cannot be asked.
        """
        request = get_model_metadata_pb2.GetModelMetadataRequest()
        specify(request.model_spec, version, "")
        request.metadata_field.append("signature_def")
        reply = await self._control(lambda server: server.metadata, request)
        signatures = get_model_metadata_pb2.SignatureDefMap()
        reply.metadata["signature_def"].Unpack(signatures)
        if name not in signatures.signature_def:
            raise BadReplyError("FAILED_PRECONDITION", f"{version} has no signature {name!r}")
        found = signatures.signature_def[name]
        return SignatureInfo(*({n: tensor_info(t) for n, t in side.items()} for side in (found.inputs, found.outputs)))

    async def warm(self, version: ModelVersion, inputs: BatchInputs) -> None:
        """Scores rows for nobody on every server, so that the version's first real call is not its first call.

        Raises:
            PredictError: as `score` does, where no server could.
        """
        request, output = self._request(version, inputs)

        async def one(server: _Server) -> None:
            read_scores(await server.call(server.predict, request, self._control_s), output, inputs.rows)

        outcomes = await asyncio.gather(*map(one, self._servers), return_exceptions=True)
        failures = [outcome for outcome in outcomes if outcome is not None]
        if len(failures) == len(outcomes):
            raise _most_telling(failures)

    async def score_aside(self, version: ModelVersion, inputs: BatchInputs, seconds: float) -> F32:
        """Scores n rows as `score` does, but once, on the server that is asked next, and nobody is judged by it.

        Raises:
            PredictError: as `score` does.
        """
        index = self._replicas.pick(self._clock())
        if index is None:
            raise PredictError("UNAVAILABLE", "every server has failed too often of late; none is asked")
        server = self._servers[index]
        request, output = self._request(version, inputs)
        return read_scores(await server.call(server.predict, request, seconds), output, inputs.rows)

    async def close(self) -> None:
        """Closes the channels; calls in flight are cancelled."""
        for server in self._servers:
            await server.channel.close(None)

    @staticmethod
    def _request(version: ModelVersion, inputs: BatchInputs) -> tuple[Any, str]:
        """The Predict request for a batch, and the output that has the scores."""
        flat = version.flat
        if flat is None:
            return score_request(version, inputs), OUTPUT
        return predict_request(version, flat.name, flat.tensors(inputs)), flat.output

    @property
    def _control_s(self) -> float:
        return self._settings.control_timeout_ms / 1e3

    async def _ask_all(
        self, method: Callable[["_Server"], Callable[..., Any]], request: Any
    ) -> tuple[list[Any], list[PredictError]]:
        """A control call on every server: the replies, and the failures."""

        async def one(server: _Server) -> Any:
            try:
                return await server.call(method(server), request, self._control_s)
            except PredictError as error:
                return error

        outcomes = await asyncio.gather(*map(one, self._servers))
        failures = [outcome for outcome in outcomes if isinstance(outcome, PredictError)]
        return [outcome for outcome in outcomes if not isinstance(outcome, PredictError)], failures

    async def _control(self, method: Callable[["_Server"], Callable[..., Any]], request: Any) -> Any:
        """A control call on the first server that answers it."""
        failures: list[BaseException] = []
        for server in self._servers:
            try:
                return await server.call(method(server), request, self._control_s)
            except PredictError as error:
                failures.append(error)
        raise _most_telling(failures)


def replicas_of(settings: PredictorSettings) -> Replicas:
    """The servers that settings name, none of them called yet."""
    return Replicas(
        [Replica(address) for address in settings.addresses],
        failures=settings.circuit_failures,
        pause_s=settings.circuit_open_ms / 1e3,
        max_pause_s=settings.circuit_max_open_ms / 1e3,
        retry_share=settings.retry_share,
    )


class _Server:
    """A channel to one address; `dns:///name` may be several servers behind one name."""

    def __init__(
        self, address: str, options: Sequence[tuple[str, Any]], credentials: grpc.ChannelCredentials | None
    ) -> None:
        self.address = address
        if credentials is None:
            self.channel = grpc.aio.insecure_channel(address, options=options)
        else:
            self.channel = grpc.aio.secure_channel(address, credentials, options=options)
        self.predict = self._method(_PREDICT, predict_pb2.PredictRequest, predict_pb2.PredictResponse)
        self.metadata = self._method(
            _METADATA,
            get_model_metadata_pb2.GetModelMetadataRequest,
            get_model_metadata_pb2.GetModelMetadataResponse,
        )
        self.status = self._method(
            _STATUS, get_model_status_pb2.GetModelStatusRequest, get_model_status_pb2.GetModelStatusResponse
        )

    def _method(self, name: str, request: Any, response: Any) -> Callable[..., Any]:
        method: Callable[..., Any] = self.channel.unary_unary(
            name, request_serializer=request.SerializeToString, response_deserializer=response.FromString
        )
        return method

    async def call(self, method: Callable[..., Any], request: Any, seconds: float) -> Any:
        """One call. Raises VersionGoneError or PredictError."""
        try:
            return await method(request, timeout=seconds)
        except grpc.aio.AioRpcError as error:
            code = error.code().name
            detail = error.details() or "no details"
            if error.code() is grpc.StatusCode.NOT_FOUND:
                raise VersionGoneError(code, detail) from None
            raise PredictError(code, detail) from None
        except grpc.aio.UsageError as error:
            raise PredictError("CLOSED", str(error)) from None
        except asyncio.CancelledError:
            raise
        except grpc.RpcError as error:
            raise PredictError("UNKNOWN", str(error)) from None


def _channel_options(settings: PredictorSettings) -> tuple[Sequence[tuple[str, Any]], grpc.ChannelCredentials | None]:
    """Options and credentials of all channels. Raises ConfigError where a file cannot be read."""
    if not settings.tls:
        return _OPTIONS, None
    files = (settings.tls_ca_file, settings.tls_key_file, settings.tls_cert_file)
    try:
        authority, key, certificate = (None if file is None else file.read_bytes() for file in files)
    except OSError as error:
        raise ConfigError(f"predictor: {error.filename} cannot be read: {error.strerror}") from error
    credentials = grpc.ssl_channel_credentials(authority, key, certificate)
    if settings.tls_server_name is None:
        return _OPTIONS, credentials
    return (*_OPTIONS, ("grpc.ssl_target_name_override", settings.tls_server_name)), credentials


def _most_telling(failures: Sequence[BaseException]) -> BaseException:
    """Of several servers' failures the one to report: that the version is gone only if nothing else went wrong."""
    return next((f for f in failures if not isinstance(f, VersionGoneError)), failures[0])
