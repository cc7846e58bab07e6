"""Model servers that live on the loop's own clock, for races that a real server cannot be told to have."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from streamer.errors import PredictError, VersionGoneError
from streamer.features import GROUPS, FeatureSpec, Layout
from streamer.types import F32, BatchInputs, ModelVersion, SignatureInfo, TensorInfo


@dataclass
class Loaded:
    """A version on a server. With a `fault`, the name of a status, its Predict calls fail."""

    spec: FeatureSpec
    fault: str | None = None

    def inputs(self) -> dict[str, TensorInfo]:
        """The inputs of its `score` signature."""
        layout = Layout(self.spec)
        ids = {f"{group}_ids": TensorInfo("int32", (-1, layout.id_width(group))) for group in GROUPS}
        floats = {f"{group}_floats": TensorInfo("float32", (-1, layout.float_width(group))) for group in GROUPS}
        wide = {name: info for name, info in (ids | floats).items() if info.dims[1]}
        return {**wide, "row_to_request": TensorInfo("int32", (-1,))}

    def takes(self, inputs: BatchInputs) -> bool:
        """Whether rows were encoded by its spec."""
        arrays = {name: getattr(inputs, name) for name in self.inputs()}
        return all(a.ndim == 1 or a.shape[1] == self.inputs()[name].dims[1] for name, a in arrays.items())


@dataclass
class Call:
    """A Predict call, from and to in seconds of the loop's clock."""

    version: int
    rows: int
    start: float
    end: float


@dataclass
class VirtualServers:
    """Servers by the versions that each has; what `Predictor` promises of several servers, they keep.

    Scores tell the version: all of version v lie in [v / 100, (v + 1) / 100). A call takes `call_s`, on any server.
    """

    servers: Sequence[dict[int, Loaded]]
    labels: Sequence[dict[str, int]] = ()  # of each server, where there are any
    call_s: float = 0.005
    control_s: float = 0.001
    calls: list[Call] = field(default_factory=list)
    warmed: list[int] = field(default_factory=list)
    misfits: int = 0
    _turn: int = 0

    async def available(self, model: str) -> frozenset[int]:
        """The versions that all have."""
        await asyncio.sleep(self.control_s)
        return frozenset.intersection(*(frozenset(server) for server in self.servers))

    async def labelled(self, model: str, label: str) -> int:
        """The version that the label leads to on all."""
        await asyncio.sleep(self.control_s)
        led_to = {labels.get(label) for labels in self.labels} or {None}
        if None in led_to:
            raise PredictError("INVALID_ARGUMENT", f"label {label!r} of {model!r}: Unrecognized servable version label")
        if any(version not in server for version in led_to for server in self.servers):
            raise PredictError("NOT_FOUND", f"label {label!r} of {model!r}: its version is not there")
        if len(led_to) > 1:
            raise PredictError("FAILED_PRECONDITION", f"label {label!r} of {model!r} leads to several versions")
        return next(version for version in led_to if version is not None)

    async def feature_spec(self, version: ModelVersion) -> str:
        """The spec of a version that any has."""
        await asyncio.sleep(self.control_s)
        return self._loaded(version).spec.to_json()

    async def signature(self, version: ModelVersion, name: str) -> SignatureInfo:
        """The signature `score` of a version that any has."""
        await asyncio.sleep(self.control_s)
        return SignatureInfo(self._loaded(version).inputs(), {"ctr": TensorInfo("float32", (-1,))})

    async def warm(self, version: ModelVersion, inputs: BatchInputs) -> None:
        """Fails where no server can score."""
        self.warmed.append(version.version)
        await self.score(version, inputs, 60.0)

    async def score(self, version: ModelVersion, inputs: BatchInputs, seconds: float) -> F32:
        """What the version makes of n rows, float32 [n]; a version that is taken away ends the calls it has begun."""
        loaded, loop = self._loaded(version), asyncio.get_running_loop()
        start = loop.time()
        await asyncio.sleep(min(self.call_s, seconds))
        self.calls.append(Call(version.version, inputs.rows, start, loop.time()))
        if seconds < self.call_s:
            raise PredictError("DEADLINE_EXCEEDED", "as told")
        if loaded.fault is not None:
            raise PredictError(loaded.fault, "as told")
        if not loaded.takes(inputs):
            self.misfits += 1
            raise PredictError("INVALID_ARGUMENT", f"rows of another spec than that of {version}")
        return score_of(version.version, inputs)

    async def score_aside(self, version: ModelVersion, inputs: BatchInputs, seconds: float) -> F32:
        """Scores as `score` does: these servers have no circuits."""
        return await self.score(version, inputs, seconds)

    def _loaded(self, version: ModelVersion) -> Loaded:
        """The version on the next server that has it."""
        self._turn += 1
        for server in (*self.servers[self._turn % len(self.servers) :], *self.servers):
            if version.version in server:
                return server[version.version]
        raise VersionGoneError("NOT_FOUND", f"{version} is not there")


def score_of(version: int, inputs: BatchInputs) -> F32:
    """The scores of version v."""
    scores: F32 = ((version + inputs.candidate_ids[:, 0] % 997 / 1000) / 100).astype(np.float32)
    return scores


def version_of(ctr: float) -> int:
    """The version that a score is from."""
    return int(ctr * 100)
