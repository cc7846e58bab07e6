"""The page of metrics."""

import pytest
from prometheus_client.parser import text_string_to_metric_families

from sandbox.model_server.monitoring import EXAMPLE_COUNTS, REQUEST_COUNT, ServerMetrics
from sandbox.model_server.status import invalid_argument


def test_requests_are_counted_by_status_and_measured_if_they_succeed() -> None:
    metrics = ServerMetrics()
    with metrics.request("m", "Predict", "GRPC"):
        pass
    with pytest.raises(ValueError, match="unexpected"), metrics.request("m", "Predict", "GRPC"):
        raise ValueError("unexpected")
    with pytest.raises(Exception, match="INVALID"), metrics.request("m", "predict", "REST"):
        raise invalid_argument("wrong")
    lines = metrics.page().splitlines()
    assert [line for line in lines if "request_count{" in line] == [
        ':tensorflow:serving:request_count{model_name="m",status="OK"} 1',
        ':tensorflow:serving:request_count{model_name="m",status="UNKNOWN"} 1',
        ':tensorflow:serving:request_count{model_name="m",status="INVALID_ARGUMENT"} 1',
    ]
    assert [line for line in lines if "request_latency_count" in line] == [
        ':tensorflow:serving:request_latency_count{model_name="m",API="Predict",entrypoint="GRPC"} 1'
    ]


def test_a_histogram_counts_values_up_to_each_bound() -> None:
    metrics = ServerMetrics()
    for value in (1, 3, 99_999):
        metrics.observe(EXAMPLE_COUNTS, "m", value=value)
    name = ":tensorflow:serving:request_example_counts"
    lines = [line for line in metrics.page().splitlines() if line.startswith(name)]
    assert lines[:3] == [f'{name}_bucket{{model="m",le="{bound}"}} {n}' for bound, n in ((1, 1), (2, 1), (4, 2))]
    assert lines[-3:] == [
        f'{name}_bucket{{model="m",le="+Inf"}} 3',
        f'{name}_sum{{model="m"}} 100003',
        f'{name}_count{{model="m"}} 3',
    ]


def test_prometheus_reads_the_page() -> None:
    metrics = ServerMetrics()
    metrics.count(REQUEST_COUNT, 'a"b\\c\nd', "OK", by=2)
    samples = [sample for family in text_string_to_metric_families(metrics.page()) for sample in family.samples]
    assert [(sample.labels, sample.value) for sample in samples] == [({"model_name": 'a"b\\c\nd', "status": "OK"}, 2.0)]


def test_the_number_of_series_is_bounded() -> None:
    metrics = ServerMetrics()
    for number in range(1_100):
        metrics.count(REQUEST_COUNT, str(number), "OK")
    assert metrics.page().count("request_count{") == 1_000
