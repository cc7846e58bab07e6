"""Checks of a command line of tensorflow_model_server, which no call can read."""

import shlex
from collections.abc import Iterator, Mapping

from streamer.diagnosis.findings import Finding, Severity
from streamer.diagnosis.servers import threads_for
from streamer.settings import Settings

_SUBJECT = "server flags"


def parse_flags(text: str) -> dict[str, str]:
    """The flags of a command line; the last of equal ones counts, `--name` alone is `true`.

    Other words are ignored. Raises ValueError: a quotation does not end, or there is no word at all.
    """
    if not (command := shlex.split(text)):
        raise ValueError("empty: there is no such process on this machine")
    words = (word[2:].partition("=") for word in command if word.startswith("--"))
    return {name: value if equals else "true" for name, equals, value in words}


def flag_findings(settings: Settings, flags: Mapping[str, str] | None, callers: int) -> Iterator[Finding]:
    """The findings; `flags`: None if unknown; `callers`: concurrent calls to one server."""
    if flags is None:
        reason = (
            f"the server's flags are unknown: {callers} concurrent calls need --grpc_max_threads={threads_for(callers)}"
        )
        reason += " (default: 4 × cores), and a switch under load needs --num_load_threads=1 (default: 0)"
        yield Finding("advice", _SUBJECT, reason, 'give the command line of the server with --server-flags "…"')
        return
    if settings.predictor.protocol == "grpc":
        yield from _threads(flags, callers)
    elif settings.predictor.protocol == "rest" and not _number(flags, "rest_api_port"):
        reason = "predictor.protocol is rest, and --rest_api_port is not set: the server has no REST API"
        yield Finding("error", _SUBJECT, reason, "set --rest_api_port=8501")
    yield from _loading(settings, flags)
    if _on(flags, "enable_batching") and not _on(flags, "enable_per_model_batching_parameters"):
        reason = "--enable_batching batches all models: calls of `score` fail, because its inputs differ in rows"
        yield Finding("error", _SUBJECT, reason, "remove it: the scorer makes batches itself")
    if _number(flags, "tensorflow_intra_op_parallelism") != 1 and callers > 1:
        reason = (
            f"{callers} concurrent calls share the cores, and each operation of each call is spread over all of them"
        )
        yield Finding("advice", _SUBJECT, reason, "measure --tensorflow_intra_op_parallelism=1")


def _threads(flags: Mapping[str, str], callers: int) -> Iterator[Finding]:
    threads, needed = _number(flags, "grpc_max_threads"), threads_for(callers)
    if threads is None:
        reason = (
            f"--grpc_max_threads is not set; with less than {-(-needed // 4)} cores its default, 4 × cores, is too low"
        )
        yield Finding("advice", _SUBJECT, reason, f"set --grpc_max_threads={needed} or more")
    elif threads < needed:
        severity: Severity = "error" if threads < callers else "warning"
        reason = f"--grpc_max_threads={threads} for {callers} concurrent calls: calls near it are rejected, and wait"
        yield Finding(severity, _SUBJECT, reason, f"set --grpc_max_threads={needed} or more")


def _loading(settings: Settings, flags: Mapping[str, str]) -> Iterator[Finding]:
    if not _number(flags, "num_load_threads"):
        reason = "--num_load_threads=0: loading takes threads of inference, and a broken version blocks the next one"
        yield Finding("warning", _SUBJECT, reason, "set --num_load_threads=1")
    poll_s = _number(flags, "file_system_poll_wait_seconds")
    if poll_s is not None and poll_s <= 0:
        looks = "only once, at its start" if poll_s == 0 else "never"
        reason = f"--file_system_poll_wait_seconds={poll_s}: the server looks for versions {looks}"
        yield Finding("warning", _SUBJECT, reason, "set 1 or more seconds")
    if flags.get("enable_model_warmup", "true") in ("false", "0"):
        reason = "--enable_model_warmup=false: the first calls of a version are slow"
        yield Finding("warning", _SUBJECT, reason, "remove it")
    if settings.predictor.labels:
        if not _number(flags, "model_config_file_poll_wait_seconds"):
            reason = "predictor.labels is set, and the server reads its model config file only once: labels never move"
            yield Finding("warning", _SUBJECT, reason, "set --model_config_file_poll_wait_seconds=1")
        if not _on(flags, "allow_version_labels_for_unavailable_models"):
            reason = "predictor.labels is set: a server whose config file names a label does not start without the flag"
            yield Finding("warning", _SUBJECT, reason, "set --allow_version_labels_for_unavailable_models")


def _on(flags: Mapping[str, str], name: str) -> bool:
    return flags.get(name, "false").lower() in ("true", "1")


def _number(flags: Mapping[str, str], name: str) -> int | None:
    text = flags.get(name, "")
    return int(text) if text.lstrip("-").isdigit() else None
