"""Replays one recorded lifecycle: files, starts, signals and calls, with the observation after each step."""

import base64
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from http.client import HTTPException
from pathlib import Path
from typing import Any

import grpc
from google.protobuf.json_format import ParseDict

from sandbox.host.parent import parent_bound_command
from sandbox.host.ports import accepts
from sandbox.model_server.lean_tensorflow import lean_tensorflow
from tests.sandbox.model_server.recorded import grpc_calls, rest_calls
from tests.sandbox.model_server.recorded.recording import Places, same
from tests.sandbox.model_server.recorded.servers import copy, places

with lean_tensorflow():
    from tensorflow.python.lib.io._pywrap_record_io import RecordWriter, RecordWriterOptions
    from tensorflow_serving.apis.get_model_status_pb2 import GetModelStatusRequest, GetModelStatusResponse
    from tensorflow_serving.apis.predict_pb2 import PredictRequest, PredictResponse
    from tensorflow_serving.apis.prediction_log_pb2 import PredictionLog

Seen = dict[str, Any]
Step = Mapping[str, Any]

_STEP_S = 0.05
_DEFAULT_PORT = 8500
# The recorded waits assume a server that starts in a few seconds: allow a slow machine more.
_START_S = 180.0
_LONGER = 4.0
_LATE_S = 120.0
_SERVICES = "tensorflow.serving"
_PREFIX = re.compile(
    r"^(?:\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d+: [A-Z] [^\]]*\] |[IWEF]\d{4} [\d:.]+ +\d+ [^\]]*\] |"
    r"\[libprotobuf [^\]]*\] )"
)


@dataclass(slots=True)
class _Server:
    process: subprocess.Popen[bytes]
    log: Path
    flags: Sequence[str]
    channel: grpc.Channel
    port: int | None
    rest_port: int | None
    socket_path: str

    def is_ready(self) -> bool:
        """The gRPC port accepts a connection, and the server has said that REST listens where asked for."""
        if self.rest_port is not None and "Exporting HTTP/REST API at:" not in self.log.read_text(errors="replace"):
            return False
        return accepts(self.port) if self.port is not None else _accepts_socket(self.socket_path)

    def exit(self) -> Seen:
        status = self.process.poll()
        if status is None:
            return {}
        return {"exit_code": status} if status >= 0 else {"exit_signal": signal.Signals(-status).name}

    def lines(self) -> list[str]:
        """Lines of the output without the log's prefix; a line that begins with a tab belongs to the one before."""
        text = self.log.read_text(errors="replace").replace("\n\t", "\0\t")
        return [_PREFIX.sub("", line).replace("\0", "\n") for line in text.splitlines() if line]

    def said(self, find: str) -> str | None:
        return next((line for line in self.lines() if re.search(find, line)), None)

    def waits(self, condition: Callable[[], bool], seconds: float) -> bool:
        """Waits for a condition or the end of the process. Returns the condition."""
        deadline = time.monotonic() + seconds
        while not condition():
            if self.process.poll() is not None or time.monotonic() > deadline:
                return condition()
            time.sleep(_STEP_S)
        return True


def replay_lifecycle(call: Mapping[str, Any], command: Sequence[str], tmp: Path, own: Path) -> str | None:
    """The first step of a recorded lifecycle that differs, with the end of its servers' logs; None: it holds.

    `command` is the server's program; `tmp` an empty folder; `own` the folder of the recording's models.
    """
    lifecycle = _Lifecycle(command, places(tmp, own))
    try:
        found = lifecycle.difference(call["steps"])
        return None if found is None else "\n".join([found, *lifecycle.log_tails()])
    finally:
        lifecycle.close()


@dataclass(slots=True)
class _Lifecycle:
    """Does the steps of one recording; each method `do_…` returns what is observed."""

    command: Sequence[str]
    at: Places
    servers: dict[str, _Server] = field(default_factory=dict)

    def difference(self, steps: Sequence[Step]) -> str | None:
        """The first step whose observation is not the recorded one; None: all hold."""
        for number, step in enumerate(_with_replacements(steps), start=1):
            expected = [self.at.fill(one) for one in (step.get("seen", {}), *step.get("also_seen", []))]
            seen, deadline = self._do(step), time.monotonic() + _LATE_S
            while not any(same(one, seen) for one in expected) and time.monotonic() < deadline and self._may_come(step):
                time.sleep(_STEP_S)
                seen = self._do(step)
            if not any(same(one, seen) for one in expected):
                return f"step {number} {step['do']}: expected {expected[0]}\n  actual   {seen}"
        return None

    def _may_come(self, step: Step) -> bool:
        """Whether a running server on a slow machine may show the recorded observation later than the real one did."""
        return step["do"] in {"predict", "said", "status"} and not self._server(step).exit()

    def log_tails(self) -> list[str]:
        """The end of each server's log."""
        return [f"{name}: {server.log.read_text(errors='replace')[-1000:]}" for name, server in self.servers.items()]

    def close(self) -> None:
        """Kills the servers that run."""
        for server in self.servers.values():
            server.channel.close()
            server.process.kill()
            server.process.wait()

    def _do(self, step: Step) -> Seen:
        method: Callable[[Step], Seen] = getattr(self, f"do_{step['do']}")
        return method(step)

    def _server(self, step: Step) -> _Server:
        return self.servers[step.get("server", "a")]

    def _path(self, step: Step, key: str = "path") -> Path:
        path = Path(self.at.filled(step[key]))
        path.parent.mkdir(parents=True, exist_ok=True)
        return path

    def do_put(self, step: Step) -> Seen:
        copy(Path(self.at.filled(step["from"])), self._path(step, "to"))
        return {}

    def do_replace(self, step: Step) -> Seen:
        """A removal and a put, with no time between them in which a slow machine could look for versions."""
        path, new = self._path(step, "to"), self.at.tmp / "replacement"
        copy(Path(self.at.filled(step["from"])), new)
        path.rename(gone := self.at.tmp / "replaced")
        new.rename(path)
        shutil.rmtree(gone)
        return {}

    def do_write(self, step: Step) -> Seen:
        content = base64.b64decode(step["base64"]) if "base64" in step else self.at.filled(step["text"]).encode()
        _write(self._path(step), content)
        return {}

    def do_write_warmup(self, step: Step) -> Seen:
        path = self._path(step)
        partial = path.with_name(f".{path.name}.partial")
        writer = RecordWriter(str(partial), RecordWriterOptions(""))
        for record in step["records"]:
            encoded = ParseDict(record, PredictionLog()).SerializeToString()
            for _ in range(step.get("times", 1)):
                writer.write(encoded)
        writer.close()
        content = partial.read_bytes()
        partial.unlink()
        _write(path, content[: len(content) - step.get("cut", 0)])
        return {}

    def do_remove(self, step: Step) -> Seen:
        path = self._path(step)
        if path.is_dir():
            gone = path.with_name(f".{path.name}.removed")
            path.rename(gone)
            shutil.rmtree(gone)
        else:
            path.unlink()
        return {}

    def do_move(self, step: Step) -> Seen:
        self._path(step, "from").rename(self._path(step, "to"))
        return {}

    def do_mkdir(self, step: Step) -> Seen:
        self._path(step).mkdir()
        return {}

    def do_wait(self, step: Step) -> Seen:
        time.sleep(step["seconds"])
        return {}

    def do_start(self, step: Step) -> Seen:
        name = step.get("server", "a")
        flags = [self.at.filled(flag) for flag in step["flags"]]
        given = dict(flag.lstrip("-").partition("=")[::2] for flag in flags)
        port = int(given.get("port", _DEFAULT_PORT))
        socket_path = given.get("grpc_socket_path", "")
        target = f"127.0.0.1:{port}" if port else f"unix:{socket_path}"
        log = self.at.tmp / f"server-{name}.log"
        with log.open("wb") as output:
            process = subprocess.Popen(
                parent_bound_command([*self.command, *flags]),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                cwd=self.at.tmp,
                env={**os.environ, "PYTHONPATH": str(Path.cwd())},
            )
        rest_port = int(given["rest_api_port"]) if "rest_api_port" in given else None
        server = _Server(process, log, flags, grpc_calls.open_channel(target), port or None, rest_port, socket_path)
        self.servers[name] = server
        expects_readiness = step["seen"]["ready"] or "exit_code" in step["seen"] or "exit_signal" in step["seen"]
        seconds = _START_S if expects_readiness else step.get("wait", 30)
        seen: Seen = {"ready": server.waits(server.is_ready, seconds), **server.exit()}
        if "find" in step:
            seen["said"] = server.said(step["find"])
        elif "exit_code" in seen:
            seen["said"] = server.lines()[-1] if server.lines() else None
        return seen

    def do_wait_ready(self, step: Step) -> Seen:
        server = self._server(step)
        return {"ready": server.waits(server.is_ready, _START_S)}

    def do_said(self, step: Step) -> Seen:
        return {"said": self._server(step).said(step["find"])}

    def do_running(self, step: Step) -> Seen:
        ended = self._server(step).exit()
        return {"running": not ended, **ended}

    def do_status(self, step: Step) -> Seen:
        request = GetModelStatusRequest()
        request.model_spec.name = step.get("model", "m")
        if "version" in step:
            request.model_spec.version.value = step["version"]
        ask = self._server(step).channel.unary_unary(
            f"/{_SERVICES}.ModelService/GetModelStatus",
            GetModelStatusRequest.SerializeToString,
            GetModelStatusResponse.FromString,
        )
        try:
            reply = ask(request, timeout=10.0)
        except grpc.RpcError as error:
            return _failure(error)
        return {"code": "OK", "versions": [_version(found) for found in reply.model_version_status]}

    def do_until(self, step: Step) -> Seen:
        """Polls until the whole recorded observation is seen: other versions may change a moment later."""
        wanted = {(int(version), state) for version, state in step["versions"].items()}
        expected = self.at.fill(step["seen"])
        deadline = time.monotonic() + step["seconds"] * (_LONGER if expected["reached"] else 1.0)
        while True:
            seen = self.do_status(step)
            found = {(version[0], version[1]) for version in seen.get("versions", [])}
            seen = {"reached": wanted <= found, **seen}
            if (expected["reached"] and same(expected, seen)) or time.monotonic() > deadline:
                return seen
            time.sleep(_STEP_S)

    def do_predict(self, step: Step) -> Seen:
        request = PredictRequest()
        request.model_spec.name = step.get("model", "m")
        if "version" in step:
            request.model_spec.version.value = step["version"]
        if "label" in step:
            request.model_spec.version_label = step["label"]
        request.inputs["x"].dtype = 1
        for size in (1, 1):
            request.inputs["x"].tensor_shape.dim.add(size=size)
        request.inputs["x"].float_val.append(2.0)
        ask = self._server(step).channel.unary_unary(
            f"/{_SERVICES}.PredictionService/Predict", PredictRequest.SerializeToString, PredictResponse.FromString
        )
        try:
            reply = ask(request, timeout=10.0)
        except grpc.RpcError as error:
            return _failure(error)
        seen: Seen = {"code": "OK", "version": reply.model_spec.version.value}
        y = reply.outputs["y"]
        if y.tensor_content:
            return {**seen, "y_tensor_content": base64.b64encode(y.tensor_content).decode()}
        return {**seen, "y": list(y.float_val)}

    def do_grpc(self, step: Step) -> Seen:
        seen = grpc_calls.outcome(step, self._server(step).channel, self.at)
        return {"code": seen["code"]} if seen["code"] == "DEADLINE_EXCEEDED" else seen

    def do_rest(self, step: Step) -> Seen:
        port = self._server(step).rest_port
        assert port is not None
        return _as_recorded(rest_calls.outcome(step, port, self.at))

    def do_burst(self, step: Step) -> Seen:
        server, count = self._server(step), step["count"]
        if step.get("channels", "one") == "one":
            channels = [server.channel]
        else:
            channels = [grpc_calls.open_channel(f"127.0.0.1:{server.port}") for _ in range(count)]
        for channel in channels:
            grpc.channel_ready_future(channel).result(timeout=30.0)
        call = step["call"]
        message = grpc_calls.request_bytes(call, self.at)
        asks = [channel.unary_unary(f"/{_SERVICES}.PredictionService/Predict", bytes, bytes) for channel in channels]
        answers = [asks[n % len(asks)].future(message, timeout=call["deadline_ms"] / 1e3) for n in range(count)]
        counts = Counter(_told(answer) for answer in answers)
        for channel in channels if len(channels) > 1 else ():
            channel.close()
        return {"counts": dict(counts)}

    def do_call_and_signal(self, step: Step) -> Seen:
        server, call = self._server(step), step["call"]
        outcomes: list[Seen] = []

        def ask() -> None:
            if "http_method" not in call:
                outcomes.append(grpc_calls.outcome(call, server.channel, self.at))
                return
            assert server.rest_port is not None
            try:
                outcomes.append(_as_recorded(rest_calls.outcome(call, server.rest_port, self.at)))
            except (HTTPException, OSError) as error:
                outcomes.append({"status": None, "error": type(error).__name__})

        thread = threading.Thread(target=ask)
        thread.start()
        time.sleep(step["after_s"])
        seen = self.do_signal(step)
        thread.join(60.0)
        outcome = outcomes[0]
        if outcome.get("code") == "UNAVAILABLE":  # the text is the client library's
            outcome = {"code": "UNAVAILABLE", "details": step["seen"]["call"]["details"]}
        return {key: value for key, value in seen.items() if key != "within_1s"} | {"call": outcome}

    def do_signal(self, step: Step) -> Seen:
        server = self._server(step)
        started = time.monotonic()
        server.process.send_signal(signal.Signals[f"SIG{step['signal']}"])
        with suppress(subprocess.TimeoutExpired):
            server.process.wait(30.0)
        return {**server.exit(), "within_1s": time.monotonic() - started < 1.0}


def _with_replacements(steps: Sequence[Step]) -> list[Step]:
    """The steps; the removal of a folder and the put of another one in its place become one step."""
    found: list[Step] = []
    for step in steps:
        if step["do"] == "put" and found and found[-1]["do"] == "remove" and found[-1]["path"] == step["to"]:
            found[-1] = {**step, "do": "replace"}
        else:
            found.append(step)
    return found


def _write(path: Path, content: bytes) -> None:
    """Writes a file beside its place, then renames it into place."""
    partial = path.with_name(f".{path.name}.partial")
    partial.write_bytes(content)
    partial.rename(path)


def _accepts_socket(path: str) -> bool:
    with socket.socket(socket.AF_UNIX) as client:
        return client.connect_ex(path) == 0


def _failure(error: Any) -> Seen:
    code = error.code().name
    return (
        {"code": code} if code in {"UNAVAILABLE", "DEADLINE_EXCEEDED"} else {"code": code, "details": error.details()}
    )


def _told(answer: Any) -> str:
    """Outcome of a call, as it is counted."""
    error = answer.exception()
    return "OK" if error is None else f"{error.code().name} {error.details()}"


def _version(found: Any) -> list[Any]:
    state = type(found).State.Name(found.state)
    if not found.status.error_code and not found.status.error_message:
        return [found.version, state]
    code = next(code.name for code in grpc.StatusCode if code.value[0] == found.status.error_code)
    return [found.version, state, code, found.status.error_message]


def _as_recorded(outcome: Mapping[str, Any]) -> Seen:
    seen = {key: value for key, value in outcome.items() if key != "body" and value}
    return {**seen, "response": json.loads(json.dumps(outcome["body"].decode()))}
