"""A request that denies consent is scored, and nothing of its user is kept."""

from dataclasses import dataclass, field, replace
from typing import Any

from streamer.features import FeatureSpec
from streamer.testing.model_servers import VirtualServers
from streamer.testing.virtual_loop import virtual
from tests.streamer.rollout.switching import Worker, loaded
from tests.streamer.specs import SMALL

ADULT, CHILD, SISTER = 9, 1, 2
# The worker's users have the age 20 + their number.
SPEC = FeatureSpec.from_mapping({**SMALL, "consent": {"denied_by": [{"path": "user.age", "values": [21, 22]}]}})


@dataclass
class Kept:
    """Stands for each place that keeps requests."""

    requests: list[object] = field(default_factory=list)

    def offer(self, *request: Any) -> None:
        self.requests.append(request)

    remember = offer


@virtual
async def test_what_is_kept_of_a_request_without_consent() -> None:
    worker = Worker(VirtualServers([loaded(1, specs={1: SPEC})]))
    shadow, feature_log, warm_up = Kept(), Kept(), Kept()
    await worker.start()
    worker.model.preparer.remember = warm_up.remember  # type: ignore[assignment]
    worker.pipeline = replace(worker.pipeline, shadow=shadow, feature_log=feature_log)  # type: ignore[arg-type]
    await worker.send(CHILD)
    await worker.send(SISTER)
    kept = [place.requests for place in (shadow, feature_log, warm_up)]
    assert kept == [[], [], []]
    await worker.send(ADULT)
    assert list(map(len, kept)) == [1, 1, 1]
    child, sister, adult = await worker.settle()
    assert (child["status"], sister["status"], adult["status"]) == ("ok", "ok", "ok")
    # The score cache knows them only as users without values.
    assert child["source"] == ["model"] * 3
    assert sister["source"] == ["cache"] * 3
    assert adult["source"] == ["model"] * 3
    denied = worker.metrics.registry.get_sample_value("streamer_features_consent_denied_requests_total")
    assert denied == 2
