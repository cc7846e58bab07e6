"""The sample of a bidder with a JSON of its own fits the commands that a new user runs."""

import json
from pathlib import Path

from model_training.data.click_log import read_log
from sandbox.world.own_shape import write_sample


def test_requests_and_log_have_the_same_shape(tmp_path: Path) -> None:
    write_sample(tmp_path / "new", seed=1, requests=3, logged=4, candidates=5)
    requests = [json.loads(line) for line in (tmp_path / "new/requests.jsonl").read_text().splitlines()]
    (request,) = (json.loads(line) for line in (tmp_path / "new/request.json").read_text().splitlines())
    assert [each["auction"] for each in [*requests, request]] == ["r-0", "r-1", "r-2", "r-3"]
    logged = list(read_log(tmp_path / "new/clicks.jsonl"))
    assert len(logged) == 4
    for each in logged:
        assert set(each.request) == {"visitor", "page"} == set(request) - {"auction", "timeout_ms", "ads"}
        assert [set(ad) for ad in each.candidates] == [set(request["ads"][0])] * 4
        assert "creative_id" in each.candidates[0]
