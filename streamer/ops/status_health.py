"""Rows of the status page about model servers, ads, batches, failures, HTTP and workers."""

from streamer.ops.metric_history import Window
from streamer.ops.status_numbers import NOTHING, Number, count, duration, percent, plural, size
from streamer.ops.status_rows import Row, Rows

# The writer of a table confirms every few seconds that it is current.
_MAX_AGE_S = 60.0
_CIRCUIT = "streamer_predictor_circuit_open"
_REASONS = {
    "full": "because they were full",
    "slot_free": "because a call was free",
    "deadline": "because a request would be late",
    "drain": "because the worker drains",
}


def models(window: Window) -> Rows:
    """Versions, circuits and failed calls."""
    shares = window.values("streamer_rollout_incoming_share", "model")
    for model, version in sorted(window.values("streamer_rollout_serving_version", "model").items()):
        share = shares.get(model, 0.0)
        says = f"All users get version {version:.0f}."
        if share:
            says = f"{percent(share)} of the users get the incoming version, the others version {version:.0f}."
        yield Row(f"version of {model}", Number(f"{version:.0f}"), says)
    for labels, bad in sorted(window.labelled("streamer_rollout_bad_version"), key=str):
        if bad:
            says = f"Version {labels['version']} cannot be prepared: `streamer model list` has the reason."
            yield Row(f"bad version of {labels['model']}", Number(labels["version"]), says, is_bad=True)
    yield from _circuits(window)
    failed = {code: n for code, n in window.increases("streamer_predictor_errors_total", "code").items() if n}
    says = f"Calls failed: {', '.join(f'{n:,.0f} with {code}' for code, n in failed.items())}."
    total = sum(failed.values())
    yield Row("failed calls", count(total), says if failed else "No call failed.", is_bad=total > 0)
    retries = window.increase("streamer_predictor_retries_total")
    yield Row(
        "retries", count(retries), f"{plural(retries, 'call')} sent again." if retries else "No call was sent again."
    )
    invalid = window.total("streamer_predictor_invalid_scores_total")
    if invalid:
        says = f"{plural(invalid, 'score')} not in [0, 1]; these ads have priors."
        yield Row("invalid scores", count(invalid), says, is_bad=True)
    rolled_back = window.total("streamer_rollout_rollbacks_total")
    if rolled_back:
        yield Row(
            "rollbacks", count(rolled_back), "A version was rolled back: see the log for the reason.", is_bad=True
        )
    for outcome, n in window.increases("streamer_shadow_requests_total", "outcome").items():
        yield Row(
            f"shadow: {outcome}",
            count(n),
            f"{plural(n, 'request')} of the shadow version.",
            outcome == "failed" and n > 0,
        )


def _circuits(window: Window) -> Rows:
    circuits = window.labelled(_CIRCUIT)
    opened = [f"{labels['address']} ({labels['model']})" for labels, is_open in circuits if is_open]
    closed = Number(f"{len(circuits) - len(opened)}/{len(circuits)}")
    if opened:
        says = f"Open, because calls fail: {', '.join(sorted(opened))}."
        yield Row("circuits closed", closed, says, is_bad=True)
    elif circuits:
        yield Row("circuits closed", closed, "Every model server gets calls.")
    else:
        yield Row("circuits closed", NOTHING, "No model server is known yet.")


def ads(window: Window) -> Rows:
    """The tables of ads, one for each feature spec."""
    for spec, n in sorted(window.values("streamer_table_ads", "spec").items()):
        short = spec[:8]
        memory = size(window.value("streamer_table_bytes", spec=spec))
        yield Row(f"ads of {short}", count(n), f"{plural(n, 'ad')} of this feature spec use {memory} of the machine.")
        loaded = window.value("streamer_table_loaded_share", spec=spec) or 0.0
        says = "The table is loaded." if loaded >= 1 else "The first load goes on; its versions do not serve yet."
        yield Row(f"loaded of {short}", percent(loaded), says, is_bad=loaded < 1)
        age = window.value("streamer_table_age_seconds", spec=spec) or 0.0
        waiting = window.value("streamer_table_lag_records", spec=spec) or 0.0
        says = f"Known to be current {duration(age)} ago; {plural(waiting, 'change')} to read."
        yield Row(f"age of {short}", duration(age), says, is_bad=age > _MAX_AGE_S)
    changes = window.increases("streamer_table_changes_total", "outcome")
    rejected = changes.get("rejected", 0.0)
    stored, deleted = changes.get("stored", 0.0), changes.get("deleted", 0.0)
    if window.label_values("streamer_table_ads", "spec") or stored + deleted + rejected:
        says = f"{count(stored)} stored, {count(deleted)} deleted, {count(rejected)} rejected."
        yield Row("changed ads", count(stored + deleted + rejected), says, is_bad=rejected > 0)


def batches(window: Window) -> Rows:
    """How batches fill, what waits, and how often the cache has a score."""
    rows = window.quantile("streamer_batching_rows", 0.5)
    reasons = {reason: n for reason, n in window.increases("streamer_batching_batches_total", "reason").items() if n}
    total = sum(reasons.values())
    says = "No batch left."
    if total and rows is not None:
        reason = max(reasons, key=lambda each: reasons[each])
        why = f"{percent(reasons[reason] / total)} left {_REASONS.get(reason, reason)}"
        says = f"Half of the batches have no more rows; {why}."
    yield Row("rows per batch", count(None if rows is None else round(rows)), says)
    queued = window.value("streamer_batching_queued_rows") or 0.0
    yield Row("queued rows", count(queued), f"{plural(queued, 'row')} wait for a call." if queued else "No row waits.")
    shed = window.increase("streamer_batching_shed_rows_total")
    says = f"{plural(shed, 'row')} shed, because no call could score them in time." if shed else "No row was shed."
    yield Row("shed rows", count(shed), says, is_bad=shed > 0)
    limit = window.value("streamer_batching_concurrency_limit")
    yield Row("call limit", count(limit), "Calls at the same time; it follows what the servers can do.")
    hits, misses, shared = (window.increase(f"streamer_cache_{n}_total") for n in ("hits", "misses", "single_flight"))
    looked_up = hits + misses + shared
    says = f"Of {plural(looked_up, 'ad')} that were looked up." if looked_up else "No score was looked up."
    yield Row("cache hits", percent(hits / looked_up if looked_up else None), says)


def failures(window: Window) -> Rows:
    """Commits, sends, fetches, transactions and dead letters."""
    commits, failed = (
        window.increase("streamer_offsets_commits_total"),
        window.increase("streamer_offsets_commit_failures_total"),
    )
    says = f"{plural(failed, 'commit')} failed." if failed else "No commit failed."
    yield Row("commits", count(commits), says, is_bad=failed > 0)
    for name, metric, one in (
        ("failed fetches", "streamer_source_fetch_failures_total", "fetch"),
        ("failed sends", "streamer_sink_send_failures_total", "send"),
    ):
        n = window.increase(metric)
        says = f"The brokers refuse or do not answer: {count(n)} in this time." if n else f"No {one} failed."
        yield Row(name, count(n), says, is_bad=n > 0)
    outcomes = window.increases("streamer_delivery_transactions_total", "outcome")
    if any(outcomes.values()):
        failed = outcomes.get("failed", 0.0)
        says = (
            f"{plural(failed, 'transaction')} failed; the next one has their answers."
            if failed
            else "No transaction failed."
        )
        yield Row("transactions", count(sum(outcomes.values())), says, is_bad=failed > 0)
    dead = {stage: n for stage, n in window.increases("streamer_sink_dead_letters_total", "stage").items() if n}
    total = sum(dead.values())
    says = f"By {', '.join(f'{stage} ({count(n)})' for stage, n in dead.items())}: `streamer dlq list` has the reasons."
    yield Row("dead letters", count(total), says if dead else "No record became a dead letter.", is_bad=total > 0)
    if isolated := window.value("streamer_delivery_isolated_partitions"):
        says = f"{plural(isolated, 'partition')} handled one record at a time after repeated deaths of workers."
        yield Row("isolated", count(isolated), says, is_bad=True)


def http(window: Window) -> Rows:
    """Requests over HTTP, if there were any."""
    codes = {code: n for code, n in window.increases("streamer_http_requests_total", "code").items() if n}
    if not codes and not window.value("streamer_http_open_connections"):
        return
    total, good = sum(codes.values()), codes.get("200", 0.0)
    others = ", ".join(f"{code} ({count(n)})" for code, n in codes.items() if code != "200")
    says = f"{percent(good / total if total else None)} have status 200" + (f"; others: {others}." if others else ".")
    yield Row("requests", count(total), says if total else "No request.", is_bad=total > 0 and good < 0.99 * total)
    most = window.quantile("streamer_http_seconds", 0.99)
    yield Row("reply", duration(most), "99 of 100 requests have their reply within this time.")
    yield Row("connections", count(window.value("streamer_http_open_connections")), "Open, idle ones included.")


def workers(window: Window) -> Rows:
    """The processes of a supervisor; nothing for a worker that works alone."""
    missing = window.value("streamer_supervisor_missing_workers")
    if missing is None:
        return
    standby = window.value("streamer_supervisor_standby_workers") or 0.0
    says = "The next death of a worker is not noticed." if standby else "No process is ready to take over."
    yield Row("standby", count(standby), says)
    says = f"{plural(missing, 'process is', 'processes are')} not ready." if missing else "All processes are ready."
    yield Row("missing", count(missing), says, is_bad=missing > 0)
    unread = window.value("streamer_supervisor_unread_partitions") or 0.0
    says = f"No worker reads {plural(unread, 'partition')}." if unread else "Every partition has a worker."
    yield Row("unread partitions", count(unread), says, is_bad=unread > 0)
    ends = window.increase("streamer_supervisor_worker_ends_total")
    says = f"{plural(ends, 'worker')} ended without a command: see the log." if ends else "No worker ended."
    yield Row("ended workers", count(ends), says, is_bad=ends > 0)
