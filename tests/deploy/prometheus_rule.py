"""The alerts of configs/prometheus/alerts.yml as an object of the Prometheus operator.

`python -m tests.deploy.prometheus_rule` writes the file again after a change of the alerts.
"""

from tests.deploy.compose import ROOT

ALERTS = ROOT / "configs/prometheus/alerts.yml"
RULE = ROOT / "deploy/kubernetes/components/monitoring/alerts.yaml"
_HEAD = """\
# Written by `python -m tests.deploy.prometheus_rule` from configs/prometheus/alerts.yml: change that file.
apiVersion: monitoring.coreos.com/v1
kind: PrometheusRule
metadata:
  name: streamer
spec:
"""


def text() -> str:
    """The content of `RULE`; comments and layout are those of the alerts."""
    lines = ALERTS.read_text(encoding="utf-8").splitlines(keepends=True)
    return _HEAD + "".join(f"  {line}" if line.strip() else line for line in lines)


if __name__ == "__main__":
    RULE.write_text(text(), encoding="utf-8")
