"""Checks of model servers: versions, labels, calls, threads."""

from collections.abc import Iterator, Mapping, Sequence

from streamer.diagnosis.facts import ModelFacts, Roles, VersionState
from streamer.diagnosis.findings import Finding

_MANY_VERSIONS = 3
_FULL = "RESOURCE_EXHAUSTED"
_BATCHED = "Batching Run()"


def model_findings(model: str, servers: Mapping[str, ModelFacts], roles: Roles) -> Iterator[Finding]:
    """The findings of one model; `servers` by address."""
    for label, error in roles.label_errors.items():
        remedy = "set it in the server's model config file, with --model_config_file_poll_wait_seconds above 0"
        yield Finding("error", f"model {model}", f"label {label} leads nowhere: {error}", remedy)
    available: dict[str, set[int]] = {}
    for address, facts in servers.items():
        subject = f"model {model} at {address}"
        if isinstance(facts.states, str):
            remedy = "start the server, or correct predictor.addresses and predictor.models"
            yield Finding("error", subject, f"no status: {facts.states}", remedy)
            continue
        available[address] = {state.version for state in facts.states if state.state == "AVAILABLE"}
        yield from _states(subject, facts.states, available[address], roles.pinned)
        if facts.score_error:
            yield _failed(subject, facts.score_error)
    everywhere = set.intersection(*available.values()) if available else set()
    for address, versions in available.items():
        if versions - everywhere:
            missing = ", ".join(map(str, sorted(versions - everywhere)))
            reason = f"version {missing} is not AVAILABLE on every server, so no users get it"
            yield Finding("warning", f"model {model} at {address}", reason, "give all servers the same base path")


def thread_finding(address: str, outcomes: Mapping[str, int], callers: int) -> Finding | None:
    """The finding of a burst of concurrent calls; `outcomes` by gRPC code, `OK` included."""
    rejected, total = outcomes.get(_FULL, 0), sum(outcomes.values())
    if not rejected:
        return None
    reason = f"{rejected} of {total} calls of {callers} concurrent callers were rejected: {_FULL}"
    return Finding("error", f"server {address}", reason, f"set --grpc_max_threads={threads_for(callers)} or more")


def threads_for(callers: int) -> int:
    """Threads with which TensorFlow Serving rejects none of so many concurrent calls.

    It counts its polling threads, too, and rejects calls long before the limit equals the number of calls.
    """
    return max(16, 2 * callers)


def _states(
    subject: str, states: Sequence[VersionState], available: set[int], pinned: Mapping[str, int]
) -> Iterator[Finding]:
    for state in states:
        if _BATCHED in state.error:
            yield _failed(subject, state.error)
        elif state.error and state.version not in available:
            remedy = "export the version again under a new number: the server does not look at this one again"
            reason = f"version {state.version} is {state.state}: {state.error}"
            yield Finding("error", subject, reason, remedy)
        elif state.state in ("START", "LOADING"):
            reason = f"version {state.version} is {state.state}: a broken one stays so for 5 retries of 60 s"
            remedy = "ask again; if it stays, read the server's log, and export the version again under a new number"
            yield Finding("warning", subject, reason, remedy)
    if not available:
        yield Finding("error", subject, "no version is AVAILABLE", "export a version into the model's base path")
        return
    removed = sorted(state.version for state in states if state.state in ("UNLOADING", "END") and not state.error)
    kept = len(available)
    policy = f"model_version_policy {{ latest {{ num_versions: {kept + 1} }} }}"
    for role, version in pinned.items():
        newer = sum(other > version for other in available)
        if version not in available:
            reason = (
                f"{role} version {version} is not AVAILABLE; the server has {', '.join(map(str, sorted(available)))}"
            )
            remedy = f"keep it with model_version_policy {{ specific {{ versions: {version} … }} }}, or unpin it"
            yield Finding("error", subject, reason, remedy)
        elif removed and newer == kept - 1 and newer:
            reason = f"the next version removes {role} version {version}: it is the oldest of the {kept} that are kept"
            yield Finding("warning", subject, reason, f"use {policy}, or a specific policy with this version")
    if kept == 1 and removed:
        reason = (
            f"the version policy keeps one version ({', '.join(map(str, removed))} was unloaded): no ramp, no rollback"
        )
        yield Finding("warning", subject, reason, "use model_version_policy { latest { num_versions: 3 } }")
    if kept > _MANY_VERSIONS:
        reason = f"{kept} versions are in memory, each with all its tables"
        yield Finding("warning", subject, reason, "use model_version_policy { latest { num_versions: 3 } }")


def _failed(subject: str, error: str) -> Finding:
    if _BATCHED in error:
        remedy = "remove --enable_batching, or use --enable_per_model_batching_parameters without this model"
        return Finding("error", subject, f"the server batches all models, so its calls fail: {error}", remedy)
    return Finding("error", subject, f"its calls fail: {error}", "export the model again, or correct its spec file")
