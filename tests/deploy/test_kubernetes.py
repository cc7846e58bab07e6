"""The manifests as they stand: names lead somewhere, values fit the scorer and the compose file, rights are few."""

import copy
import json
import re
import tomllib
from collections.abc import Callable
from pathlib import Path

import pytest
import typer
import yaml
from prometheus_client import CollectorRegistry

from streamer.commands import app
from streamer.diagnosis.server_flags import flag_findings, parse_flags
from streamer.ops.supervisor_handlers import SupervisorHandlers
from streamer.ops.worker_client import WorkerClient
from streamer.settings import Settings
from streamer.settings.environment import meant_as_settings
from streamer.settings.names import sections_of
from tests.deploy import prometheus_rule
from tests.deploy.compose import COMPOSE_FILE, ROOT
from tests.deploy.kubernetes import (
    KUBERNETES,
    OVERLAYS,
    SECRETS,
    Object,
    Objects,
    amount,
    container,
    documents,
    environment,
    named,
    of_kind,
    pods,
    resources,
    settings_of,
)
from tests.deploy.kubernetes_review import complaints
from tests.streamer.ops.test_any_request import Forgets

PAGE = ROOT / "docs/kubernetes.md"
OURS = ("ctr-streamer", "ctr-streamer-sandbox")


@pytest.fixture(scope="module")
def small() -> Objects:
    return resources(KUBERNETES / "overlays/small")


@pytest.fixture(scope="module")
def production() -> Objects:
    return resources(KUBERNETES / "overlays/production")


@pytest.fixture(scope="module")
def scorer(production: Objects) -> Object:
    return named(production, "StatefulSet", "streamer")


@pytest.fixture(scope="module")
def model_server(production: Objects) -> Object:
    return named(production, "Deployment", "model-server")


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_a_reviewer_finds_nothing(overlay: str) -> None:
    assert complaints(resources(KUBERNETES / "overlays" / overlay)) == []


def rename_label(objects: Objects) -> None:
    named(objects, "StatefulSet", "streamer")["spec"]["template"]["metadata"]["labels"] = {"app": "streamer"}


def select_the_job_too(objects: Objects) -> None:
    named(objects, "PodDisruptionBudget", "streamer")["spec"]["selector"]["matchLabels"] = {
        "app.kubernetes.io/name": "streamer"
    }


def call_an_unnamed_port(objects: Objects) -> None:
    named(objects, "Service", "streamer")["spec"]["ports"][0]["targetPort"] = "metrics"


def probe_an_unnamed_port(objects: Objects) -> None:
    container(named(objects, "StatefulSet", "streamer"))["livenessProbe"]["httpGet"]["port"] = "health"


def mount_an_unknown_config(objects: Objects) -> None:
    named(objects, "Job", "topics")["spec"]["template"]["spec"]["volumes"][0]["configMap"]["name"] = "settings"


def use_an_unknown_secret(objects: Objects) -> None:
    container(named(objects, "StatefulSet", "streamer"))["env"][1]["valueFrom"]["secretKeyRef"]["name"] = "ops"


def run_as_root(objects: Objects) -> None:
    del named(objects, "Deployment", "model-server")["spec"]["template"]["spec"]["securityContext"]["runAsNonRoot"]


def keep_capabilities(objects: Objects) -> None:
    container(named(objects, "StatefulSet", "streamer"))["securityContext"]["capabilities"] = {"add": ["NET_ADMIN"]}


def scrape_an_unknown_port(objects: Objects) -> None:
    named(objects, "ServiceMonitor", "streamer")["spec"]["endpoints"][0]["port"] = "http"


def scale_another_workload(objects: Objects) -> None:
    named(objects, "ScaledObject", "streamer")["spec"]["scaleTargetRef"]["name"] = "scorer"


def allow_unknown_pods(objects: Objects) -> None:
    rule = named(objects, "NetworkPolicy", "model-server")["spec"]["ingress"][0]
    rule["from"][0]["podSelector"]["matchLabels"] = {"app": "streamer"}


def have_a_service_with_an_address(objects: Objects) -> None:
    del named(objects, "Service", "streamer")["spec"]["clusterIP"]


@pytest.mark.parametrize(
    ("mutate", "complaint"),
    [
        (rename_label, "service streamer: selects []"),
        (select_the_job_too, "disruption budget streamer: selects no workload, or several"),
        (call_an_unnamed_port, "service streamer: no container has the ports {'metrics'}"),
        (probe_an_unnamed_port, "streamer: streamer has no port health for its livenessProbe"),
        (mount_an_unknown_config, "topics: there is no ConfigMap settings"),
        (use_an_unknown_secret, "streamer: the page names no Secret ops"),
        (run_as_root, "model-server: may run as root"),
        (keep_capabilities, "streamer: streamer has capabilities, or can get them"),
        (scrape_an_unknown_port, "service monitor streamer: the service has no ports {'http'}"),
        (scale_another_workload, "scaled object streamer: there is no StatefulSet scorer"),
        (allow_unknown_pods, "network policy model-server: no pod has the labels {'app': 'streamer'}"),
        (have_a_service_with_an_address, "streamer: has no headless service streamer"),
    ],
)
def test_a_reviewer_finds_faults(production: Objects, mutate: Callable[[Objects], None], complaint: str) -> None:
    broken = copy.deepcopy(production)
    mutate(broken)
    assert complaint in complaints(broken)


def test_our_images_have_the_projects_version_and_others_those_of_the_compose_file(small: Objects) -> None:
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    images = {found["image"] for _, pod in pods(small) for found in pod["spec"]["containers"]}
    ours = {image for image in images if image.partition(":")[0] in OURS}
    assert ours == {f"{name}:{version}" for name in OURS}
    services = yaml.safe_load(COMPOSE_FILE.read_text())["services"]
    assert images - ours <= {service["image"] for service in services.values()}


def test_the_broker_has_the_settings_of_the_compose_file(small: Objects) -> None:
    """But for the listener of the host."""
    expected = yaml.safe_load(COMPOSE_FILE.read_text())["services"]["kafka"]["environment"]
    found = environment(named(small, "StatefulSet", "kafka"))
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        assert found[name] == re.sub(r",HOST:(//[\w.]*:\d+|PLAINTEXT)", "", str(value)), name


def test_every_variable_of_the_scorer_is_a_setting() -> None:
    """In patches, too. A misspelt one ends the scorer with exit status 2."""
    texts = [path.read_text(encoding="utf-8") for path in KUBERNETES.rglob("*.yaml")]
    names = {name for text in texts for name in re.findall(r"\bname: (STREAMER_\w+)", text)}
    found, wrong = meant_as_settings(dict.fromkeys(names, "1"), sections_of(Settings))
    assert (set(found), wrong) == (names, [])
    assert "STREAMER_KAFKA__GROUP_INSTANCE_ID" in names


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_the_scorer_accepts_the_settings(overlay: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    objects = resources(KUBERNETES / "overlays" / overlay)
    settings = settings_of(objects, tmp_path, monkeypatch)
    assert settings.kafka.group_instance_id == "streamer-0", "the slot is the name of the pod"
    assert settings.supervisor.standby >= 1
    (port,) = container(named(objects, "StatefulSet", "streamer"))["ports"]
    assert (settings.ops.host, settings.ops.port) == ("0.0.0.0", port["containerPort"])  # noqa: S104
    names = {found["metadata"]["name"]: found["spec"] for found in of_kind(objects, "Service")}
    for address in settings.predictor.addresses:
        name, _, number = address.removeprefix("dns:///").partition(":")
        assert names[name]["clusterIP"] == "None", "each pod is a server of its own"
        assert int(number) in {port["port"] for port in names[name]["ports"]}


def test_a_pod_has_time_to_drain(
    scorer: Object, production: Objects, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    drain_s = settings_of(production, tmp_path, monkeypatch).service.drain_ms / 1e3
    assert scorer["spec"]["template"]["spec"]["terminationGracePeriodSeconds"] >= drain_s + 10 + 5


def test_the_probes_of_the_scorer(scorer: Object, tmp_path: Path) -> None:
    """Paths of its port. Liveness waits longer than a supervisor waits for a worker that hangs."""
    handlers = SupervisorHandlers(WorkerClient(list, lambda _: tmp_path), lambda: None, CollectorRegistry(), Forgets())
    pages = {route.path for route in handlers.routes() if route.method == "GET"}
    found = container(scorer)
    paths = {probe: found[probe]["httpGet"]["path"] for probe in ("startupProbe", "livenessProbe", "readinessProbe")}
    assert set(paths.values()) <= pages
    # A start that waits for model servers or brokers is healthy: a restart would begin the wait again.
    assert paths == {"startupProbe": "/healthz", "livenessProbe": "/healthz", "readinessProbe": "/readyz"}
    assert found["livenessProbe"]["timeoutSeconds"] > 10


def test_the_model_server_is_configured_as_in_the_compose_file(
    model_server: Object, production: Objects, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = container(model_server)
    service = yaml.safe_load(COMPOSE_FILE.read_text())["services"]["model-server"]
    assert found["command"] == service["entrypoint"]
    flags, of_compose = (parse_flags(" ".join(["server", *words])) for words in (found["args"], service["command"]))
    assert of_compose.items() - flags.items() <= {("grpc_max_threads", "64")}, "the fleet is larger"
    # Three calls of each worker of the largest fleet at one server, as `streamer doctor` counts.
    settings = settings_of(production, tmp_path, monkeypatch)
    pods_at_most = named(production, "ScaledObject", "streamer")["spec"]["maxReplicaCount"]
    assert list(flag_findings(settings, flags, callers=3 * pods_at_most * settings.supervisor.active)) == []
    cores = amount(found["resources"]["requests"]["cpu"])
    assert int(flags["tensorflow_inter_op_parallelism"]) == cores, "TensorFlow would count the cores of the node"


def test_the_model_server_gets_its_files(model_server: Object, production: Objects) -> None:
    mounts = {mount["name"]: mount for mount in container(model_server)["volumeMounts"]}
    config = named(production, "ConfigMap", "model-server-config")["data"]
    flags = parse_flags(" ".join(["server", *container(model_server)["args"]]))
    for flag in ("model_config_file", "monitoring_config_file"):
        assert Path(flags[flag]).parent == Path(mounts["config"]["mountPath"])
        assert Path(flags[flag]).name in config
    # With `subPath` Kubernetes never updates the file; with a hash in the name a change of the policy is a restart.
    assert "subPath" not in mounts["config"]
    assert mounts["models"]["readOnly"]
    (base_path,) = re.findall(r'base_path: "(.+)"', config["models.config"])
    assert Path(base_path).parent == Path(mounts["models"]["mountPath"])
    assert container(model_server)["readinessProbe"]["httpGet"]["path"] == f"/v1{base_path}/metadata"


def test_a_model_server_leaves_after_the_scorers_have_forgotten_it(model_server: Object) -> None:
    """30 s in a DNS cache, 5 s to the next look-up, 60 s in which a scorer keeps the address, 1 s to its removal."""
    pause_s = container(model_server)["lifecycle"]["preStop"]["sleep"]["seconds"]
    assert pause_s > 30 + 5 + 60 + 1
    assert model_server["spec"]["template"]["spec"]["terminationGracePeriodSeconds"] >= pause_s + 10


def test_the_alerts_are_those_of_prometheus() -> None:
    assert prometheus_rule.RULE.read_text(encoding="utf-8") == prometheus_rule.text(), (
        "run `python -m tests.deploy.prometheus_rule`"
    )
    (rule,) = documents(prometheus_rule.RULE)
    assert rule["spec"] == yaml.safe_load(prometheus_rule.ALERTS.read_text(encoding="utf-8"))


def test_the_jobs_have_the_names_that_alerts_and_dashboard_use(production: Objects) -> None:
    config = yaml.safe_load((ROOT / "configs/prometheus/prometheus.yml").read_text())
    scraped = {
        job["job_name"]: job["metrics_path"] for job in config["scrape_configs"] if job["job_name"] != "prometheus"
    }
    found = {}
    for monitor in of_kind(production, "ServiceMonitor"):
        (endpoint,) = monitor["spec"]["endpoints"]
        found[monitor["spec"]["selector"]["matchLabels"][monitor["spec"]["jobLabel"]]] = endpoint["path"]
        assert endpoint["interval"] == config["global"]["scrape_interval"]
    assert found == scraped


def test_the_dashboards_are_in_a_config_map(production: Objects) -> None:
    data = named(production, "ConfigMap", "streamer-dashboard")["data"]
    files = {
        path.name: path.read_text(encoding="utf-8") for path in (ROOT / "configs/grafana/dashboards").glob("*.json")
    }
    assert {name: json.loads(text) for name, text in data.items()} == {
        name: json.loads(text) for name, text in files.items()
    }


def test_the_scaler_keeps_within_the_partitions(
    production: Objects, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = settings_of(production, tmp_path, monkeypatch)
    spec = named(production, "ScaledObject", "streamer")["spec"]
    assert spec["minReplicaCount"] >= 2, "a start takes longer than any budget"
    assert spec["maxReplicaCount"] * settings.supervisor.active == settings.topics.partitions
    assert settings.topics.partitions % (spec["minReplicaCount"] * settings.supervisor.active) == 0
    (namespace,) = (found["metadata"]["name"] for found in of_kind(production, "Namespace"))
    for trigger in spec["triggers"]:
        # Lag by offsets is never 0 on a topic with transactions.
        assert trigger["type"] == "prometheus"
        # A misspelt key would have no effect: the schema has a map of texts here.
        assert set(trigger["metadata"]) == {"serverAddress", "query", "threshold", "ignoreNullValues"}
        query = trigger["metadata"]["query"]
        assert query.count("{") == query.count(f'{{namespace="{namespace}", job="streamer"')
        assert trigger["metadata"]["ignoreNullValues"] == "false", "no answer is no reason to remove pods"


def kubectl_commands() -> list[str]:
    """The commands of the page, each on one line."""
    text = PAGE.read_text(encoding="utf-8").replace("\\\n", " ")
    return [line.strip() for line in re.findall(r"^    (\w.*)$", text, re.MULTILINE)]


def test_the_page_names_folders_objects_and_commands_that_exist(small: Objects, production: Objects) -> None:
    names = {(found["kind"].lower(), found["metadata"]["name"]) for found in [*small, *production]}
    names |= {("pod", f"{found['metadata']['name']}-0") for found in of_kind([*small, *production], "StatefulSet")}
    names |= {("secret", secret) for secret in SECRETS}
    commands = kubectl_commands()
    assert len(commands) > 10
    for command in commands:
        for folder in re.findall(r"-k (\S+)", command):
            assert (ROOT / folder / "kustomization.yaml").is_file(), command
        for kind, name in re.findall(r"\b(statefulset|deployment|job|configmap|pod|service)/([\w-]+)", command):
            assert (kind, name) in names, command
        if " -- streamer " in command:
            words = command.partition(" -- streamer ")[2].split()
            found = typer.main.get_command(app)
            while words and not words[0].startswith("-") and (group := getattr(found, "commands", None)):
                found = group[words.pop(0)]
    assert {secret for secret in SECRETS if f"secret generic {secret} " not in " ".join(commands)} == set()
