"""Loads, serves and unloads versions of models while requests are served."""

import logging
import threading
import time
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

import grpc

from sandbox.model_server import status
from sandbox.model_server.batching import BatchThreads
from sandbox.model_server.batching_parameters import Batching, global_batching
from sandbox.model_server.config import ModelConfig
from sandbox.model_server.flags import ServerFlags
from sandbox.model_server.loading import Load, load_with_retries
from sandbox.model_server.monitoring import ServerMetrics
from sandbox.model_server.policy import Phase, plan, versions_of
from sandbox.model_server.servable import Servable, ServableId
from sandbox.model_server.status import State, StatusError, VersionStatus

_log = logging.getLogger(__name__)

# An old version waits at most this long for its active calls.
_UNLOAD_WAIT_S = 600.0

RELOAD_WAIT_S = 300.0
"""A reload waits at most this long for its new models; tensorflow_model_server has no limit."""


@dataclass(slots=True)
class _Held:
    """A version from the start of its load to the end of its unload, or until it is forgotten."""

    load: Load
    phase: Phase = Phase.LOADING
    servable: Servable | None = None

    @property
    def id(self) -> ServableId:
        return self.load.id


@dataclass(slots=True)
class _Model:
    config: ModelConfig
    on_disk: Mapping[int, str] = field(default_factory=dict)
    held: dict[int, _Held] = field(default_factory=dict)
    complaint: str = ""


class Manager:
    """Keeps the versions that the configuration aspires to loaded.

    As in tensorflow_model_server, without load threads nothing else is loaded or unloaded while one version loads.

    Invariants:
    - The table that requests read is replaced as a whole: a request sees the old or the new latest version.
    - A session is closed only after its version left the table and its last active call ended.
    - Requests take no lock of the manager, so loading never delays them.
    """

    def __init__(self, flags: ServerFlags, metrics: ServerMetrics) -> None:
        self._flags = flags
        self._metrics = metrics
        self._changed = threading.Condition(threading.RLock())
        self._models: dict[str, _Model] = {}
        self._wanted: frozenset[str] = frozenset()
        self._reloading = threading.Lock()
        self._statuses: dict[str, dict[int, VersionStatus]] = {}
        self._labels: Mapping[str, Mapping[str, int]] = {}
        self._table: Mapping[tuple[str, int | None], Servable] = {}
        self._batch_threads = BatchThreads((global_batching(flags) or Batching()).threads, metrics)
        self._loaders = ThreadPoolExecutor(max(flags.num_load_threads, 1), thread_name_prefix="load")
        self._poller = threading.Thread(target=self._keep_polling, name="poll", daemon=True)

    @property
    def models(self) -> frozenset[str]:
        """Names of the configured models."""
        return self._wanted

    def start(self, configs: Sequence[ModelConfig]) -> None:
        """Starts to poll the base paths. Raises `StatusError` if a label cannot be assigned yet."""
        self._configure(configs)
        self._poller.start()

    def reload(self, configs: Sequence[ModelConfig], turn_s: float = RELOAD_WAIT_S) -> None:
        """Replaces the configuration, then waits until every new model is available.

        As in tensorflow_model_server a later reload waits behind it (at most `turn_s`), even if the caller of this one
        has gone. Raises `StatusError`.
        """
        if not self._reloading.acquire(timeout=min(turn_s, RELOAD_WAIT_S)):
            raise StatusError(grpc.StatusCode.DEADLINE_EXCEEDED, "Deadline Exceeded")
        try:
            with self._changed:
                new = [config.name for config in configs if config.name not in self._wanted]
                self._configure(configs)
            self._poll()
            self.wait_until_available(new, wait_s=RELOAD_WAIT_S)
        finally:
            self._reloading.release()

    def wait_until_available(self, names: Iterable[str], *, wait_s: float | None = None) -> None:
        """Returns when each model has an available version.

        Without `wait_s`, at the start, all loads must have ended, too: the ports open after them. Raises `StatusError`:
        UNKNOWN if all versions of a model have failed, DEADLINE_EXCEEDED after `wait_s`.
        """
        deadline = None if wait_s is None else time.monotonic() + wait_s
        with self._changed:
            found = {name: self._settled(name) for name in names}
            while None in found.values() or (wait_s is None and self._is_loading()):
                if deadline is not None and time.monotonic() > deadline:
                    waiting = ", ".join(sorted(name for name, settled in found.items() if settled is None))
                    text = f"no version became available in {wait_s} s: {waiting}"
                    raise StatusError(grpc.StatusCode.DEADLINE_EXCEEDED, text)
                self._changed.wait(0.1)
                found = {name: self._settled(name) for name in found}
            if failures := [failure for failure in found.values() if failure]:
                reasons = "".join(f"{{{failure}}}, " for failure in failures)
                noun = "servable" if wait_s is None else "model"
                text = f"{len(failures)} {noun}(s) did not become available: {{{reasons}}}"
                raise StatusError(grpc.StatusCode.UNKNOWN, text)

    def acquire(self, name: str, version: int | None) -> Servable:
        """A version to call (None: the latest available); the caller must `release()` it.

        Raises NOT_FOUND.
        """
        while True:
            servable = self._table.get((name, version))
            if servable is None:
                request = f"Latest({name})" if version is None else f"Specific({name}, {version})"
                raise status.not_found(f"Servable not found for request: {request}")
            if servable.acquire():
                return servable

    def version_of_label(self, name: str, label: str) -> int:
        version = self._labels.get(name, {}).get(label)
        if version is None:
            raise status.invalid_argument(f"Unrecognized servable version label: {label}")
        return version

    def statuses(self, name: str, version: int | None) -> list[VersionStatus]:
        """Statuses of a model's versions, newest first, including unloaded versions.

        Raises NOT_FOUND.
        """
        with self._changed:
            known = self._statuses.get(name, {})
            if version is not None and version not in known:
                raise status.not_found(f"Could not find version {version} of model {name}")
            if not known:
                raise status.not_found(f"Could not find any versions of model {name}")
            return [known[number] for number in sorted(known, reverse=True) if version in {None, number}]

    def _configure(self, configs: Sequence[ModelConfig]) -> None:
        with self._changed:
            self._check_labels(configs)
            self._labels = {config.name: dict(config.labels) for config in configs}
            named = {config.name: config for config in configs}
            for name in self._wanted - named.keys():
                self._models[name].on_disk = {}
                self._reconcile(self._models[name])
            for name, config in named.items():
                self._models.setdefault(name, _Model(config)).config = config
            self._wanted = frozenset(named)

    def _check_labels(self, configs: Sequence[ModelConfig]) -> None:
        for config in configs:
            for label, version in config.labels.items():
                now = self._labels.get(config.name, {}).get(label, version)
                unchecked = self._flags.force_allow_any_version_labels_for_unavailable_models or (
                    self._flags.allow_version_labels_for_unavailable_models and now == version
                )
                if not unchecked and (config.name, version) not in self._table:
                    raise status.failed_precondition(
                        f"Request to assign label to version {version} of model {config.name}, "
                        "which is not currently available for inference"
                    )

    def _settled(self, name: str) -> str | None:
        """Empty: a version is available. A text: all have failed, with the newest one's reason."""
        held = self._models[name].held if name in self._models else {}
        if any(one.phase is Phase.READY for one in held.values()):
            return ""
        if held and all(one.phase is Phase.FAILED for one in held.values()):
            newest = held[max(held)].id
            return f"{newest} due to error: {self._statuses[name][newest.version].error}"
        return None

    def _keep_polling(self) -> None:
        interval = self._flags.file_system_poll_wait_seconds
        self._poll()
        while interval > 0:
            time.sleep(interval)
            self._poll()

    def _poll(self) -> None:
        if self._flags.file_system_poll_wait_seconds < 0:
            return
        with self._changed:
            models = [(model, model.config) for name, model in self._models.items() if name in self._wanted]
        for model, config in models:
            try:
                on_disk = versions_of(path.name for path in config.base_path.iterdir())
                complaint = "" if on_disk else f"No versions of servable {config.name} found under base path"
            except (OSError, ValueError) as error:  # ValueError: a path with a zero byte
                # A base path that cannot be read does not show which versions exist: keep the loaded versions.
                on_disk, complaint = None, f"Could not find base path for servable {config.name}: {error}"
            if complaint and complaint != model.complaint:
                _log.warning("%s %s", complaint, config.base_path)
            model.complaint = complaint
            with self._changed:
                # A reload meanwhile has another path, or another object for a model of this name; it polls by itself.
                same = self._models.get(config.name) is model and model.config.base_path == config.base_path
                if on_disk is not None and same and config.name in self._wanted:
                    model.on_disk = on_disk
                    self._reconcile(model)

    def _reconcile(self, model: _Model) -> None:
        """Starts the actions of the plan; the caller holds the lock."""
        if not self._flags.num_load_threads and self._is_loading():
            return
        phases = {version: held.phase for version, held in model.held.items()}
        aspired = model.config.policy.aspired(model.on_disk)
        for version, held in model.held.items():
            if held.phase is Phase.LOADING and version not in aspired:
                held.load.cancelled = True
        todo = plan(model.on_disk, phases, model.config.policy)
        for version in todo.forget:
            del model.held[version]
        for version in todo.load:
            path = model.config.base_path / model.on_disk[version]
            held = model.held[version] = _Held(Load(ServableId(model.config.name, version), path))
            self._set_status(held.id, State.START)
            self._loaders.submit(self._load, model, held)
        for version in todo.unload:
            held = model.held[version]
            held.phase = Phase.UNLOADING
            self._set_status(held.id, State.UNLOADING)
            self._publish()
            threading.Thread(target=self._unload, args=(model, held), name=f"unload {held.id}", daemon=True).start()

    def _is_loading(self) -> bool:
        return any(held.phase is Phase.LOADING for model in self._models.values() for held in model.held.values())

    def _load(self, model: _Model, held: _Held) -> None:
        error = StatusError(grpc.StatusCode.INTERNAL, "the load ended unexpectedly")
        servable: Servable | None = None
        try:
            with self._changed:
                self._set_status(held.id, State.LOADING)
            servable = load_with_retries(held.load, self._flags, self._batch_threads, self._metrics)
        except StatusError as failure:
            error = failure
        except Exception:  # noqa: BLE001  # no one reads the result of this thread
            _log.exception("The load of servable version %s ended unexpectedly", held.id)
        finally:
            with self._changed:
                held.servable = servable
                held.phase = Phase.READY if servable else Phase.FAILED
                self._set_status(held.id, *((State.AVAILABLE,) if servable else (State.END, error)))
                if servable is None and held.load.cancelled:
                    del model.held[held.id.version]  # it may be aspired again, with other files
                self._publish()
                for waiting in (model, *self._models.values()):
                    self._reconcile(waiting)

    def _unload(self, model: _Model, held: _Held) -> None:
        if held.servable is not None:
            held.servable.close(_UNLOAD_WAIT_S)
        with self._changed:
            held.servable = None
            del model.held[held.id.version]
            self._set_status(held.id, State.END)
            _log.info("Unloaded servable version %s", held.id)
            if not model.held and model.config.name not in self._wanted:
                del self._models[model.config.name]
            self._reconcile(model)

    def _set_status(self, servable_id: ServableId, state: State, error: StatusError | None = None) -> None:
        found = VersionStatus(servable_id.version, state, error)
        self._statuses.setdefault(servable_id.name, {})[servable_id.version] = found
        self._changed.notify_all()

    def _publish(self) -> None:
        table: dict[tuple[str, int | None], Servable] = {}
        for name, model in self._models.items():
            ready = {v: held.servable for v, held in model.held.items() if held.phase is Phase.READY and held.servable}
            table |= {(name, version): servable for version, servable in ready.items()}
            if ready:
                table[name, None] = ready[max(ready)]
        self._table = table
