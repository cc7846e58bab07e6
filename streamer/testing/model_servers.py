"""Fake model servers on the loop's own clock, for races that a real server cannot reproduce."""

import asyncio
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np

from streamer.errors import PredictError, VersionGoneError
from streamer.features import FeatureSpec, Layout
from streamer.serving.identity import Shown
from streamer.types import F32, Availability, BatchInputs, ModelVersion, SignatureInfo, TensorInfo


@dataclass
class Loaded:
    """A version on a server.

    Attributes:
        fault: the status with which its Predict calls fail.
        shift: added to its scores, as another training would.
    """

    spec: FeatureSpec
    fault: str | None = None
    shift: float = 0.0

    def inputs(self) -> dict[str, TensorInfo]:
        """The inputs of the `score` signature."""
        return Layout(self.spec).score_inputs()

    def takes(self, inputs: BatchInputs) -> bool:
        """Whether the rows were encoded with the version's spec."""
        return all(getattr(inputs, name).shape[1:] == (info.dims or ())[1:] for name, info in self.inputs().items())


@dataclass
class Call:
    """A Predict call; `start` and `end` are seconds of the loop's clock."""

    version: int
    rows: int
    start: float
    end: float


@dataclass
class VirtualServers:
    """Fake servers with the interfaces of `Predictor` and `Predictor.control`.

    All scores of version v are in [v / 100, (v + 1) / 100). A call takes `call_s` on every server.

    Attributes:
        servers: the versions on each server.
        labels: the labels of each server; empty: no server has labels.
        control_s: the seconds of a control call.
        max_calls: the calls that the scorer sends at a time.
        calls: the Predict calls so far.
        warmed: the version of each warm-up request.
        misfits: calls with rows of another spec than the version's.
    """

    servers: Sequence[dict[int, Loaded]]
    labels: Sequence[dict[str, int]] = ()
    call_s: float = 0.005
    control_s: float = 0.001
    max_calls: int = 3
    calls: list[Call] = field(default_factory=list)
    warmed: list[int] = field(default_factory=list)
    misfits: int = 0

    async def available(self, model: str) -> Availability:
        """The versions of the servers."""
        await asyncio.sleep(self.control_s)
        return Availability.of(frozenset(server) for server in self.servers)

    async def labelled(self, model: str, label: str) -> int:
        """The version that the label names on every server."""
        await asyncio.sleep(self.control_s)
        named = {labels.get(label) for labels in self.labels} or {None}
        if None in named:
            raise PredictError("INVALID_ARGUMENT", f"label {label!r} of {model!r}: Unrecognized servable version label")
        if any(version not in server for version in named for server in self.servers):
            raise PredictError("NOT_FOUND", f"label {label!r} of {model!r}: its version is not loaded")
        if len(named) > 1:
            raise PredictError("FAILED_PRECONDITION", f"label {label!r} of {model!r} leads to several versions")
        return next(version for version in named if version is not None)

    async def feature_spec(self, version: ModelVersion) -> str:
        """The spec of a version that a server has."""
        await asyncio.sleep(self.control_s)
        return self._loaded(version).spec.to_json()

    async def signature(self, version: ModelVersion, name: str) -> SignatureInfo:
        """The signature `score` of a version that a server has."""
        await asyncio.sleep(self.control_s)
        return SignatureInfo(self._loaded(version).inputs(), {"ctr": TensorInfo("float32", (-1,))})

    async def warm(self, version: ModelVersion, requests: Iterable[BatchInputs]) -> None:
        """Scores each request once; fails if the version cannot score."""
        for inputs in requests:
            self.warmed.append(version.version)
            await self.score(version, inputs, 60.0)

    async def score(self, version: ModelVersion, inputs: BatchInputs, seconds: float) -> F32:
        """Scores n rows, float32 [n]; removing the version does not end a started call."""
        loaded, loop = self._loaded(version), asyncio.get_running_loop()
        start = loop.time()
        await asyncio.sleep(min(self.call_s, seconds))
        self.calls.append(Call(version.version, inputs.rows, start, loop.time()))
        if seconds < self.call_s:
            raise PredictError("DEADLINE_EXCEEDED", "injected fault: the call was too slow")
        if loaded.fault is not None:
            raise PredictError(loaded.fault, "injected fault")
        if not loaded.takes(inputs):
            self.misfits += 1
            raise PredictError("INVALID_ARGUMENT", f"the rows do not fit the spec of {version}")
        return score_of(version.version, inputs) + np.float32(loaded.shift)

    async def show(
        self, version: ModelVersion, inputs: BatchInputs, *, has_spec: bool
    ) -> dict[str, Shown | PredictError]:
        """What each server shows of a version, or its failure."""
        await asyncio.sleep(self.control_s)
        return {
            str(i): self._shown(server.get(version.version), version, inputs) for i, server in enumerate(self.servers)
        }

    @staticmethod
    def _shown(loaded: Loaded | None, version: ModelVersion, inputs: BatchInputs) -> Shown | PredictError:
        if loaded is None:
            return VersionGoneError("NOT_FOUND", f"this server does not have {version}")
        if loaded.fault is not None:
            return PredictError(loaded.fault, "injected fault")
        signature = SignatureInfo(loaded.inputs(), {"ctr": TensorInfo("float32", (-1,))})
        scores = score_of(version.version, inputs) + np.float32(loaded.shift)
        return Shown(loaded.spec.to_json(), signature, scores)

    def concurrency_limit(self) -> int:
        """`max_calls`; the servers take any number of calls."""
        return self.max_calls

    calls_allowed = concurrency_limit

    # These servers have no circuits.
    score_shadow = score

    def _loaded(self, version: ModelVersion) -> Loaded:
        """The version on the first server that has it."""
        for server in self.servers:
            if version.version in server:
                return server[version.version]
        raise VersionGoneError("NOT_FOUND", f"no server has {version}")


def score_of(version: int, inputs: BatchInputs) -> F32:
    """The scores of a version for n rows, float32 [n]."""
    scores: F32 = ((version + inputs.candidate_ids[:, 0] % 997 / 1000) / 100).astype(np.float32)
    return scores


def version_of(ctr: float) -> int:
    """The version that a score comes from."""
    return int(ctr * 100)
