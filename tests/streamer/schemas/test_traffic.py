"""The sandbox's traffic fits the schemas."""

from itertools import islice
from pathlib import Path
from typing import get_args

from sandbox.world.ad_changes import AdChanges
from sandbox.world.bid_requests import CandidatesBy, RequestFactory
from sandbox.world.topic_files import write_topic_files
from streamer.features import FeatureSpec
from tests.docs.worked_examples import ROOT
from tests.sandbox.world.small import small_world
from tests.streamer.schemas.validation import faults

SPEC = FeatureSpec.from_yaml(ROOT / "configs/features/world.yaml")


def test_requests_in_each_form() -> None:
    for form in get_args(CandidatesBy):
        factory = RequestFactory(small_world(), candidates=5, layout=form, deadline_ms=12.5, model="ctr", headers=True)
        for _ in range(5):
            record = factory.next()
            assert faults("request", record.value, SPEC) == faults("request", record.value) == []
            assert faults("request-headers", {name: text.decode() for name, text in record.headers}) == []


def test_the_topic_of_ads() -> None:
    changes = AdChanges(small_world())
    records = [*islice(changes.catalogue(), 10), *(changes.next() for _ in range(10))]
    assert [faults("ad", record.value, SPEC) for record in records if record.value is not None].count([]) > 10


def test_a_log_as_topics(tmp_path: Path) -> None:
    log = small_world().draw_log(tmp_path / "log.jsonl", 40)
    files = write_topic_files(log.path, tmp_path / "topics")
    for name, file in (("request", files.bid_requests), ("impression", files.impressions), ("click", files.clicks)):
        lines = file.read_bytes().splitlines()
        assert lines, name
        for line in lines:
            assert faults(name, line, SPEC) == []
