"""For each alert: the series of a system with two workers, one of them in trouble, and the alert that they raise.

Values are in the notation of `promtool test rules`, one for each 15 s.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

Series = Mapping[str, str]
STEP_S = 15
A, B = 'instance="a:9100",job="streamer"', 'instance="b:9100",job="streamer"'
CONSTANT, NONE, STEADY = "1x240", "0x240", "0+150x240"
_TOTAL = 'streamer_stage_seconds_bucket{%s,stage="total",le="%s"}'
_DELAY = 'streamer_loop_delay_seconds_bucket{%s,le="%s"}'
_MODEL = 'model="ctr"'
_PRESENT = 'streamer_features_present_total{%s,model="ctr",feature="user_age"}'
_SAMPLED = 'streamer_features_sampled_total{%s,model="ctr",feature="user_age"}'
_CIRCUIT = 'streamer_predictor_circuit_open{%s,address="10.0.0.7:8500",model="ctr"}'
_LABELS_OF_COUNTERS = {
    "streamer_supervisor_worker_ends_total": ("",),
    "streamer_sink_late_answers_total": ("",),
    "streamer_log_lines_dropped_total": ("",),
    "streamer_predictor_invalid_scores_total": (',model="ctr",reason="nan"',),
    "streamer_rollout_rollbacks_total": (',model="ctr"',),
    "streamer_sink_send_failures_total": ("",),
    "streamer_source_fetch_failures_total": ("",),
    "streamer_source_skipped_records_total": (',reason="deleted"', ',reason="backlog"'),
    "streamer_source_position_resets_total": (',reason="recreated"', ',reason="truncated"'),
    "streamer_offsets_commit_failures_total": ("",),
    "streamer_delivery_transactions_total": (',outcome="failed"',),
    "streamer_sink_dead_letters_total": (',stage="decode"', ',stage="crash"'),
    "streamer_registry_lookups_total": (',outcome="failed"',),
    "streamer_registry_rejected_records_total": ("",),
    "streamer_table_reloads_total": (',reason="recreated"',),
    "streamer_batching_shed_rows_total": ("",),
    "streamer_sink_answers_total": (',status="fallback"', ',status="partial"', ',status="expired"'),
}


def healthy(of: str, *, counters: str = NONE, work: str = STEADY) -> dict[str, str]:
    """All series that the rules use, of one machine: those of failures are `counters`, those of work are `work`."""
    gauges = {
        f"up{{{of}}}": CONSTANT,
        f"streamer_ready{{{of}}}": CONSTANT,
        f'streamer_ready{{{of},worker="0"}}': CONSTANT,
        f'streamer_supervisor_worker_up{{{of},worker="0"}}': CONSTANT,
        f"streamer_supervisor_missing_workers{{{of}}}": NONE,
        f"streamer_supervisor_unread_partitions{{{of}}}": NONE,
        f'streamer_source_lag_records{{{of},partition="3"}}': "5x240",
        f'streamer_source_lag_seconds{{{of},partition="3"}}': "0.01x240",
        f"streamer_source_backlog_records{{{of}}}": NONE,
        _CIRCUIT % of: NONE,
        f'streamer_rollout_bad_version{{{of},{_MODEL},version="2"}}': NONE,
        f"streamer_rollout_serving_version{{{of},{_MODEL}}}": "3x240",
        f'streamer_source_unreadable_partitions{{{of},partition="3"}}': NONE,
        f'streamer_table_lag_seconds{{{of},spec="5eed"}}': CONSTANT,
        f'streamer_table_age_seconds{{{of},spec="5eed"}}': "3x240",
        f'streamer_table_loaded_share{{{of},spec="5eed"}}': CONSTANT,
        f"streamer_delivery_isolated_partitions{{{of}}}": NONE,
    }
    works = {
        f"streamer_source_acknowledged_records_total{{{of}}}": work,
        f'streamer_sink_answers_total{{{of},status="ok"}}': work,
        _SAMPLED % of: work,
        _PRESENT % of: work,
        **{_TOTAL % (of, le): work for le in ("0.005", "0.01", "0.015", "+Inf")},
        **{_DELAY % (of, le): work for le in ("0.001", "0.05", "0.1", "+Inf")},
    }
    failures = {f"{name}{{{of}{labels}}}": counters for name, found in _LABELS_OF_COUNTERS.items() for labels in found}
    return {**gauges, **works, **failures}


@dataclass(frozen=True, slots=True)
class Case:
    """One alert, raised by machine `a` while machine `b` is healthy.

    Attributes:
        series: of machine `a`, in place of the healthy ones; None removes a series.
        summary: the rendered annotation.
        labels: those of the alert, without its severity.
        active_s: the time at which the expression has a result first.
        quiet: series which must not raise it, in place of the healthy ones.
        both: whether machine `b` has the same series: a healthy one alone keeps the alert quiet.
    """

    alert: str
    series: Mapping[str, str | None]
    summary: str
    labels: Mapping[str, str] = field(default_factory=dict)
    active_s: int = 0
    quiet: tuple[Mapping[str, str | None], ...] = ()
    both: bool = False


def _counter(name: str, labels: str, values: str) -> dict[str, str]:
    return {f"{name}{{{A}{labels}}}": values}


def _answers(status: str, values: str, ok: str = STEADY) -> dict[str, str | None]:
    name = "streamer_sink_answers_total"
    return {f'{name}{{{A},status="{status}"}}': values, f'{name}{{{A},status="ok"}}': ok}


def _features(sampled: str, present: str) -> dict[str, str]:
    """Of both machines."""
    return {name % of: values for of in (A, B) for name, values in ((_SAMPLED, sampled), (_PRESENT, present))}


_ONE_OF_A = {"instance": "a:9100", "job": "streamer"}
_SPEC = {"instance": "a:9100", "spec": "5eed"}
CASES = (
    Case(
        "StreamerDown",
        {f"up{{{A}}}": "0x240"},
        "a:9100 does not answer on its operations port",
        _ONE_OF_A,
        quiet=({f"up{{{A}}}": "1x20 0x3 1x200"},),
    ),
    Case(
        "StreamerAbsent",
        {f"up{{{A}}}": None},
        "Prometheus has no target of the job streamer",
        {"job": "streamer"},
        quiet=({f"up{{{A}}}": "0x240"},),
        both=True,
    ),
    Case(
        "StreamerNotReady",
        {f"streamer_ready{{{A}}}": "0x240"},
        "a:9100 scores nothing, or not all of its partitions: /readyz gives the reason",
        _ONE_OF_A,
        # A standby is not ready before it is admitted.
        quiet=({f'streamer_ready{{{A},worker="0"}}': "0x240"}, {f"streamer_ready{{{A}}}": "0x7 1x200"}),
    ),
    Case(
        "StreamerWorkerDown",
        {f'streamer_supervisor_worker_up{{{A},worker="0"}}': "0x240"},
        "worker 0 of a:9100 does not run",
        {**_ONE_OF_A, "worker": "0"},
    ),
    Case(
        "StreamerNoStandby",
        {f"streamer_supervisor_missing_workers{{{A}}}": "2x240"},
        "2 processes of a:9100 are not ready: the next death of a worker will be noticed",
        _ONE_OF_A,
        quiet=({f"streamer_supervisor_missing_workers{{{A}}}": "0x20 1x19 0x200"},),
    ),
    Case(
        "StreamerPartitionsUnread",
        {f"streamer_supervisor_unread_partitions{{{A}}}": "4x240"},
        "no worker of a:9100 reads 4 of its partitions",
        _ONE_OF_A,
        quiet=({f"streamer_supervisor_unread_partitions{{{A}}}": "0x20 4x1 0x200"},),
    ),
    Case(
        "StreamerWorkersDie",
        _counter("streamer_supervisor_worker_ends_total", "", "0+1x240"),
        "4 workers of a:9100 ended in 15 minutes without a command to end",
        _ONE_OF_A,
        active_s=60,
        quiet=(_counter("streamer_supervisor_worker_ends_total", "", "0x20 1x60 2x60 3x90"),),
    ),
    Case(
        "StreamerNothingAnswered",
        {f"streamer_source_acknowledged_records_total{{{A}}}": "700x240"},
        "there is a lag, and no record is answered or dead-lettered",
        {"job": "streamer"},
        both=True,
        quiet=(
            # Of two machines one answers; idle machines have no lag.
            {f"streamer_source_acknowledged_records_total{{{A}}}": "700x240"},
        ),
    ),
    Case(
        "StreamerLag",
        {f'streamer_source_lag_seconds{{{A},partition="3"}}': "90x240"},
        "partition 3 has a lag of 1m 30s: its requests expire",
        {"partition": "3"},
        quiet=({f'streamer_source_lag_seconds{{{A},partition="3"}}': "0x20 90x3 0x200"},),
    ),
    Case(
        "StreamerNotScored",
        _answers("fallback", "0+50x240"),
        "14.29% of the answers lack scores of the model",
        active_s=15,
        quiet=(
            _answers("fallback", "0+3x240"),  # a share of 1 %
            _answers("fallback", "0x20 1x220", ok="0x240"),  # one request at night
        ),
    ),
    Case(
        "StreamerExpires",
        _answers("expired", "0+50x240"),
        "14.29% of the requests expire before they are scored",
        active_s=15,
        quiet=({**_answers("expired", "0+50x240"), f"streamer_source_backlog_records{{{A}}}": "9x240"},),
    ),
    Case(
        "StreamerLate",
        _counter("streamer_sink_late_answers_total", "", "0+10x240"),
        "3.333% of the answers are sent after their deadline",
        active_s=15,
        quiet=(_counter("streamer_sink_late_answers_total", "", "0+2x240"),),
    ),
    Case(
        "StreamerSlow",
        {_TOTAL % (A, "0.005"): "0+50x240", _TOTAL % (A, "0.01"): "0+100x240"},
        "scoring takes 14.7ms at the 99th percentile; the target is 10 ms",
        active_s=15,
        quiet=({_TOTAL % (A, "0.005"): "0+50x240"},),
    ),
    Case(
        "StreamerCircuitOpen",
        {_CIRCUIT % A: "1x240"},
        "the circuit of ctr on model server 10.0.0.7:8500 is open: its calls fail",
        {"address": "10.0.0.7:8500", "model": "ctr"},
        quiet=({_CIRCUIT % A: "0x20 1x3 0x200"},),
    ),
    Case(
        "StreamerLogIncomplete",
        _counter("streamer_log_lines_dropped_total", "", "0+1x240"),
        "a:9100 drops log lines: nobody reads its standard error, or the disk behind it is full",
        {"instance": "a:9100"},
        active_s=15,
    ),
    Case(
        "StreamerScoresNotValid",
        _counter("streamer_predictor_invalid_scores_total", ',model="ctr",reason="nan"', "0+1x240"),
        "ctr returns scores that are not in [0, 1] (nan); they are replaced by priors",
        {"model": "ctr", "reason": "nan"},
        active_s=15,
    ),
    Case(
        "StreamerVersionRolledBack",
        _counter("streamer_rollout_rollbacks_total", ',model="ctr"', "0x20 1x220"),
        "a version of ctr was rolled back",
        {"model": "ctr"},
        active_s=315,
    ),
    Case(
        "StreamerVersionBad",
        {f'streamer_rollout_bad_version{{{A},model="ctr",version="2"}}': "1x240"},
        "version 2 of ctr cannot be prepared; another version serves",
        {"model": "ctr", "version": "2"},
    ),
    Case(
        "StreamerVersionsDiffer",
        {f'streamer_rollout_serving_version{{{A},model="ctr"}}': "4x240"},
        "workers serve different versions of ctr",
        {"model": "ctr"},
        # One follows the other within the minutes of a rollout.
        quiet=({f'streamer_rollout_serving_version{{{A},model="ctr"}}': "3x20 4x39 3x180"},),
    ),
    Case(
        "StreamerSendsFail",
        _counter("streamer_sink_send_failures_total", "", "0+1x240"),
        "answers or dead letters cannot be sent; reading pauses at the bound of unacknowledged records",
        active_s=15,
        quiet=(_counter("streamer_sink_send_failures_total", "", "0x20 1x220"),),
    ),
    Case(
        "StreamerFetchesFail",
        _counter("streamer_source_fetch_failures_total", "", "0+1x240"),
        "records cannot be read",
        active_s=15,
        quiet=(_counter("streamer_source_fetch_failures_total", "", "0x20 1x220"),),
    ),
    Case(
        "StreamerPartitionUnreadable",
        {f'streamer_source_unreadable_partitions{{{A},partition="3"}}': "1x240"},
        "partition 3 cannot be opened or read: the log names its offset and the error",
        {"partition": "3"},
    ),
    Case(
        "StreamerPositionLost",
        _counter("streamer_source_position_resets_total", ',reason="truncated"', "0x20 1x220"),
        "records were deleted before they were read, or a partition is read again from its beginning: the log names it",
        active_s=315,
        quiet=(_counter("streamer_source_skipped_records_total", ',reason="backlog"', "0+9x240"),),
    ),
    Case(
        "StreamerCommitsFail",
        _counter("streamer_offsets_commit_failures_total", "", "0+1x240"),
        "commits fail: a crash would repeat all answers since the last commit",
        active_s=15,
        quiet=(_counter("streamer_offsets_commit_failures_total", "", "0x20 1x220"),),
    ),
    Case(
        "StreamerTransactionsFail",
        _counter("streamer_delivery_transactions_total", ',outcome="failed"', "0+1x240"),
        "transactions fail: answers stay in memory and are not visible",
        active_s=15,
        quiet=(_counter("streamer_delivery_transactions_total", ',outcome="committed"', "0+9x240"),),
    ),
    Case(
        "StreamerDeadLetters",
        _counter("streamer_sink_dead_letters_total", ',stage="decode"', "0x20 1x220"),
        "records are dead-lettered by decode: `streamer dlq list` shows the reasons",
        {"stage": "decode"},
        active_s=315,
        quiet=(_counter("streamer_sink_dead_letters_total", ',stage="crash"', "0x20 1x220"),),
    ),
    Case(
        "StreamerSchemaRejected",
        _counter("streamer_registry_rejected_records_total", "", "0x20 3x220"),
        "3 records in 15 minutes have a schema that does not fit; they are answered `invalid`",
        active_s=315,
    ),
    Case(
        "StreamerRegistryFails",
        _counter("streamer_registry_lookups_total", ',outcome="failed"', "0+1x240"),
        "a:9100 gets no schemas from the schema registry; new schemas of requests are not checked",
        {"instance": "a:9100"},
        active_s=15,
        quiet=(
            _counter("streamer_registry_lookups_total", ',outcome="unknown"', "0+1x240"),
            _counter("streamer_registry_lookups_total", ',outcome="failed"', "0x20 1x220"),
        ),
    ),
    Case(
        "StreamerFeatureMissing",
        {_PRESENT % A: "0+150x20 3000x220"},
        "feature user_age of ctr has no value any more, or never had one: its path, or a producer, is wrong",
        {"model": "ctr", "feature": "user_age"},
        active_s=2100,
        quiet=({_PRESENT % A: NONE},),
        both=True,
    ),
    Case(
        "StreamerFeatureMissing",
        {_PRESENT % A: NONE},
        "feature user_age of ctr has no value any more, or never had one: its path, or a producer, is wrong",
        {"model": "ctr", "feature": "user_age"},
        active_s=255,
        both=True,
        quiet=(
            # One value of a hundred: 36 are expected in half an hour; they came in the first minutes.
            _features(sampled="0+15x240", present="0x20 20x220"),
            # A version that has read it serves no more.
            _features(sampled="9000x240", present=NONE),
        ),
    ),
    Case(
        "StreamerTableBehind",
        {f'streamer_table_lag_seconds{{{A},spec="5eed"}}': "90x240"},
        "the table of ads of a:9100 is 1m 30s behind its topic",
        _SPEC,
        quiet=(
            {  # the first load
                f'streamer_table_lag_seconds{{{A},spec="5eed"}}': "90x240",
                f'streamer_table_loaded_share{{{A},spec="5eed"}}': "0.5x240",
            },
        ),
    ),
    Case(
        "StreamerTableLoads",
        {f'streamer_table_loaded_share{{{A},spec="5eed"}}': "0.5x240"},
        "a table of ads of a:9100 is not loaded after 15 minutes; its versions do not serve",
        _SPEC,
        quiet=({f'streamer_table_loaded_share{{{A},spec="5eed"}}': "0.5x40 1x200"},),
    ),
    Case(
        "StreamerTableReloaded",
        _counter("streamer_table_reloads_total", ',reason="recreated"', "0x20 1x220"),
        "a table of ads is loaded again, because its topic was recreated",
        {"reason": "recreated"},
        active_s=315,
    ),
    Case(
        "StreamerRecordKillsWorker",
        _counter("streamer_sink_dead_letters_total", ',stage="crash"', "0x20 1x220"),
        "a record has killed its workers repeatedly and is in the dead-letter topic",
        active_s=315,
        quiet=(_counter("streamer_sink_dead_letters_total", ',stage="decode"', "0x20 1x220"),),
    ),
    Case(
        "StreamerPartitionsIsolated",
        {f"streamer_delivery_isolated_partitions{{{A}}}": "2x240"},
        "a:9100 has 2 isolated partitions: their records are processed one at a time after repeated deaths",
        {"instance": "a:9100"},
    ),
    Case(
        "StreamerLoopBlocked",
        {_DELAY % (A, "0.001"): "0+100x240", _DELAY % (A, "0.05"): "0+100x240"},
        "the event loop of a:9100 has a delay of 98.5ms: too few cores?",
        {"instance": "a:9100"},
        active_s=15,
    ),
    Case(
        "StreamerShedsRows",
        _counter("streamer_batching_shed_rows_total", "", "0+30x240"),
        "2 rows/s are shed: more requests than the model servers can score",
        active_s=15,
        quiet=(_counter("streamer_batching_shed_rows_total", "", "0x20 300x220"),),
    ),
)
