"""Takes the picture of the status page in `docs/operations.md` with a headless Chromium.

`python docs/scripts/status_page_picture.py` draws a worker whose model server has failed two minutes ago.
Its numbers are made here; the page is that of the scorer.
"""

import random
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from PIL import Image

from streamer.metrics import Metrics
from streamer.ops.metric_history import STEP_S
from streamer.ops.status_page import StatusPage
from streamer.types import StageTimes

PICTURE = Path(__file__).resolve().parents[1] / "images" / "status_page.png"
_SAMPLES, _FAILS_AT = 61, 49
_SIZE = (1440, 1120)


def page() -> str:
    """The page as HTML, after ten minutes."""
    metrics, now, chance = Metrics(), [0.0], random.Random(3)
    status = StatusPage(lambda: now[0])
    metrics.concurrency_limit.set(8)
    metrics.serving_version.labels("ctr").set(3)
    for sample in range(_SAMPLES):
        now[0] = sample * STEP_S
        fails = sample >= _FAILS_AT
        _ten_seconds(metrics, chance, fails=fails)
        for partition in range(4):
            metrics.lag.labels(partition).set(chance.randrange(3))
            metrics.lag_seconds.labels(partition).set(chance.uniform(0.001, 0.004))
        metrics.set_circuit("10.0.0.7:8500", "ctr", is_open=fails)
        status.sample(metrics.registry.collect())
    now[0] += 4.0
    return status.render({"": "RUNNING"}, metrics.registry.collect(), reloads=False)


def _ten_seconds(metrics: Metrics, chance: random.Random, *, fails: bool) -> None:
    """Counts requests of ten seconds and their answers."""
    requests = chance.randrange(1400, 1800)
    metrics.records.inc(requests)
    metrics.candidates.inc(300 * requests)
    metrics.commits.inc(20)
    for number in range(requests):
        predict = chance.lognormvariate(0.9, 0.35)
        times = StageTimes(decode=0.2, encode=0.4, queue=1.0, predict=predict, total=1.6 + predict)
        metrics.answered("fallback" if fails and number % 2 else "ok", times, 0.03 - times.total / 1e3)
        metrics.loop_delay.observe(0.0004)
        if fails and number % 200 == 0:
            metrics.predict_failed("ctr", "UNAVAILABLE")
        if number % 3 == 0:
            metrics.predicted(predict * 7e-4)
            metrics.batch_left("slot_free", 600)


def main() -> None:
    """Writes the picture."""
    chromium = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if chromium is None:
        sys.exit("no browser: chromium, chromium-browser or google-chrome must be on the PATH")
    with tempfile.TemporaryDirectory() as folder:
        source, raw = Path(folder) / "page.html", Path(folder) / "page.png"
        source.write_text(page(), encoding="utf-8")
        flags = [
            "--headless=new",
            "--no-sandbox",
            "--disable-gpu",
            "--hide-scrollbars",
            f"--user-data-dir={folder}/user",
        ]
        size = f"--window-size={_SIZE[0]},{_SIZE[1]}"
        subprocess.run(
            [chromium, *flags, size, f"--screenshot={raw}", source.as_uri()], check=True, capture_output=True
        )
        Image.open(raw).convert("RGB").quantize(256).save(PICTURE, optimize=True)


if __name__ == "__main__":
    main()
