"""The containers: valid for Docker Compose, pinned, on loopback; every named file exists."""

import copy
import json
import re
import tomllib
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest
import yaml

from sandbox.broker.jars import kafka_version
from tests.deploy.compose import COMPOSE_FILE, ROOT, Compose, compose

ONE_SHOT = {"topics", "model"}
PINNED = re.compile(r"[a-z0-9._/-]+:v?\d+\.\d+\.\d+[a-z0-9.-]*")
DOCKERFILES = sorted((ROOT / "deploy").glob("*.Dockerfile"))


def load() -> Compose:
    loaded: Compose = yaml.safe_load(COMPOSE_FILE.read_text())
    return loaded


def set_unknown_key(file: Compose) -> None:
    file["services"]["streamer"]["helth_check"] = {}


def depend_on_unknown_service(file: Compose) -> None:
    file["services"]["streamer"]["depends_on"]["zookeeper"] = {"condition": "service_healthy"}


def use_undefined_volume(file: Compose) -> None:
    file["services"]["kafka"]["volumes"] = ["nowhere:/var/lib/kafka/data"]


def depend_in_a_circle(file: Compose) -> None:
    file["services"]["model"]["depends_on"] = ["traffic"]


def wait_for_unknown_condition(file: Compose) -> None:
    file["services"]["topics"]["depends_on"]["kafka"] = {"condition": "service_is_fine"}


def publish_bad_port(file: Compose) -> None:
    file["services"]["prometheus"]["ports"] = ["127.0.0.1:99999:9090"]


def stop_after_bad_duration(file: Compose) -> None:
    file["services"]["streamer"]["stop_grace_period"] = "half a minute"


def test_compose_accepts_the_file() -> None:
    result = compose(COMPOSE_FILE, "config", "--quiet")
    assert (result.returncode, result.stderr) == (0, "")


def test_an_unchanged_copy_is_accepted(tmp_path: Path) -> None:
    """Proves that a mutated copy is not rejected only because it is a copy."""
    file = tmp_path / "docker-compose.yml"
    file.write_text(yaml.safe_dump(load()))
    result = compose(file, "config", "--quiet")
    assert (result.returncode, result.stderr) == (0, "")


@pytest.mark.parametrize(
    ("mutate", "complaint"),
    [
        (set_unknown_key, "helth_check"),
        (depend_on_unknown_service, "zookeeper"),
        (use_undefined_volume, "undefined volume nowhere"),
        (depend_in_a_circle, "cycle"),
        (wait_for_unknown_condition, "condition"),
        (publish_bad_port, "99999"),
        (stop_after_bad_duration, "half a minute"),
    ],
)
def test_compose_rejects_a_broken_copy(mutate: Callable[[Compose], None], complaint: str, tmp_path: Path) -> None:
    broken = copy.deepcopy(load())
    mutate(broken)
    file = tmp_path / "docker-compose.yml"
    file.write_text(yaml.safe_dump(broken))
    result = compose(file, "config", "--quiet")
    assert result.returncode != 0
    assert complaint in result.stderr


def test_every_image_is_pinned_to_a_patch_version(services: dict[str, Compose]) -> None:
    images = {service["image"] for service in services.values()}
    for dockerfile in DOCKERFILES:
        images.update(re.findall(r"^FROM (\S+)", dockerfile.read_text(), re.MULTILINE))
    assert {image for image in images if not PINNED.fullmatch(image)} == set()


def test_servers_have_the_tested_versions(services: dict[str, Compose]) -> None:
    """Those of the broker and of TensorFlow in the tests; TensorFlow Serving has TensorFlow's version."""
    assert services["kafka"]["image"] == f"apache/kafka:{kafka_version()}"
    assert services["model-server"]["image"] == f"tensorflow/serving:{version('tensorflow')}"


def test_every_service_has_only_the_rights_and_the_time_that_it_needs(services: dict[str, Compose]) -> None:
    """No process can gain a capability, and a writable root file system has a reason."""
    for name, service in services.items():
        assert service["cap_drop"] == ["ALL"], name
        assert service["stop_grace_period"], f"{name}: podman's Docker API has no default"
        assert service["security_opt"] == ["no-new-privileges:true"], name
    assert {name for name, service in services.items() if not service.get("read_only")} == {"kafka", "grafana"}


def test_images_built_here_have_the_projects_version(services: dict[str, Compose]) -> None:
    own = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    tags = {service["image"].split(":")[1] for service in services.values() if "build" in service}
    assert tags == {own}


def test_services_sharing_an_image_share_its_build(services: dict[str, Compose]) -> None:
    """Otherwise Compose pulls the image for the service without a build."""
    for service in services.values():
        if service["image"].startswith("ctr-streamer"):
            dockerfile = service["build"]["dockerfile"]
            assert (ROOT / dockerfile).is_file()
            assert (ROOT / f"{dockerfile}.dockerignore").is_file()


def test_every_long_running_service_has_a_health_check_and_restarts(services: dict[str, Compose]) -> None:
    for name in services.keys() - ONE_SHOT:
        assert services[name]["healthcheck"]["test"], name
        assert services[name]["restart"] == "unless-stopped", name
    for name in ONE_SHOT:
        assert services[name]["restart"] != "unless-stopped", name


def test_every_service_has_limits(services: dict[str, Compose]) -> None:
    for name, service in services.items():
        limits = service["deploy"]["resources"]["limits"]
        assert limits["cpus"] > 0, name
        assert int(limits["memory"]) > 0, name


def test_a_service_waits_for_its_dependencies_to_be_healthy_or_done(services: dict[str, Compose]) -> None:
    for name, service in services.items():
        for target, how in service.get("depends_on", {}).items():
            wanted = "service_completed_successfully" if target in ONE_SHOT else "service_healthy"
            assert how["condition"] == wanted, f"{name} on {target}"


def test_ports_are_published_on_loopback_only(services: dict[str, Compose]) -> None:
    published = {(name, port["host_ip"]) for name, service in services.items() for port in service.get("ports", [])}
    assert {host for _, host in published} == {"127.0.0.1"}


def test_a_scorer_beyond_loopback_can_get_its_token_from_the_shell(services: dict[str, Compose]) -> None:
    environment = services["streamer"]["environment"]
    assert environment["STREAMER_OPS__HOST"] == "0.0.0.0"  # noqa: S104
    assert environment["STREAMER_OPS__TOKEN"] is None, "no token is in the file; without one orders are rejected"


def test_every_file_that_is_mounted_exists(services: dict[str, Compose]) -> None:
    mounts = [mount for service in services.values() for mount in service.get("volumes", []) if mount["type"] == "bind"]
    assert mounts
    assert [mount["source"] for mount in mounts if not Path(mount["source"]).exists()] == []
    assert all(mount["read_only"] for mount in mounts)


def test_config_paths_in_commands_are_mounted(services: dict[str, Compose]) -> None:
    """Each /etc path in an argument is a file of this repository."""
    named = 0
    for service in services.values():
        binds = {
            mount["target"]: Path(mount["source"]) for mount in service.get("volumes", []) if mount["type"] == "bind"
        }
        for argument in service["command"] or []:
            path = Path(argument.rpartition("=")[2])
            if not path.is_relative_to("/etc"):
                continue
            named += 1
            inside = [
                source / path.relative_to(target) for target, source in binds.items() if path.is_relative_to(target)
            ]
            assert [file for file in inside if file.is_file()], argument
    assert named >= 4


def test_the_model_server_sees_the_models_and_only_reads_them(services: dict[str, Compose]) -> None:
    (server,) = [mount for mount in services["model-server"]["volumes"] if mount["type"] == "volume"]
    (trainer,) = services["model"]["volumes"]
    assert (server["source"], server["target"]) == (trainer["source"], trainer["target"])
    assert server["read_only"]
    assert not trainer.get("read_only", False)


def test_server_side_batching_is_off(services: dict[str, Compose]) -> None:
    flags = services["model-server"]["command"]
    assert not [flag for flag in flags if flag.startswith("--enable_batching")]
    assert "--num_load_threads=1" in flags


@pytest.mark.parametrize("dockerfile", DOCKERFILES, ids=lambda path: path.stem)
def test_what_a_dockerfile_copies_exists_and_is_sent_to_the_build(dockerfile: Path) -> None:
    ignore = Path(f"{dockerfile}.dockerignore").read_text().splitlines()
    sources = [
        source
        for line in re.findall(r"^COPY (?!--from)(.+)$", dockerfile.read_text(), re.MULTILINE)
        for source in line.split()[:-1]
    ]
    assert sources
    for source in sources:
        assert (ROOT / source).exists(), source
        assert f"!{source}" in ignore, source


@pytest.mark.parametrize("dockerfile", DOCKERFILES, ids=lambda path: path.stem)
def test_an_image_runs_as_an_ordinary_user_from_locked_packages(dockerfile: Path) -> None:
    lines = dockerfile.read_text().splitlines()
    user = [line.split()[1] for line in lines if line.startswith("USER ")][-1]
    assert int(user.split(":")[0]) >= 1000
    assert all("--no-deps" in line for line in lines if "pip install" in line)


def test_prometheus_scrapes_scorer_and_model_server(services: dict[str, Compose]) -> None:
    config = yaml.safe_load((ROOT / "configs/prometheus/prometheus.yml").read_text())
    jobs: dict[str, Any] = {job["job_name"]: job for job in config["scrape_configs"]}

    port = services["streamer"]["environment"]["STREAMER_OPS__PORT"]
    assert jobs["streamer"]["metrics_path"] == "/metrics"
    assert jobs["streamer"]["static_configs"] == [{"targets": [f"streamer:{port}"]}]

    (rest,) = [flag for flag in services["model-server"]["command"] if flag.startswith("--rest_api_port=")]
    assert jobs["tensorflow-serving"]["metrics_path"] == "/monitoring/prometheus/metrics"
    assert jobs["tensorflow-serving"]["static_configs"] == [{"targets": [f"model-server:{rest.partition('=')[2]}"]}]


def test_prometheus_reads_the_alerts_and_each_says_how_bad_it_is() -> None:
    config = yaml.safe_load((ROOT / "configs/prometheus/prometheus.yml").read_text())
    assert config["rule_files"] == ["/etc/prometheus/alerts.yml"]
    (group,) = yaml.safe_load((ROOT / "configs/prometheus/alerts.yml").read_text())["groups"]
    names = [rule["alert"] for rule in group["rules"]]
    assert len(set(names)) == len(names)
    for rule in group["rules"]:
        assert rule["labels"]["severity"] in {"page", "ticket"}, rule["alert"]
        assert rule["annotations"]["summary"], rule["alert"]


def test_grafana_finds_its_dashboard_and_its_data(services: dict[str, Compose]) -> None:
    folder = ROOT / "configs/grafana"
    (source,) = yaml.safe_load((folder / "provisioning/datasources/prometheus.yaml").read_text())["datasources"]
    assert source["url"] == "http://prometheus:9090"
    (provider,) = yaml.safe_load((folder / "provisioning/dashboards/streamer.yaml").read_text())["providers"]
    mounted = {mount["target"]: Path(mount["source"]) for mount in services["grafana"]["volumes"]}
    assert mounted[provider["options"]["path"]] == folder / "dashboards"
    home = Path(services["grafana"]["environment"]["GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH"])
    dashboard = json.loads((mounted[str(home.parent)] / home.name).read_text())
    variable = dashboard["templating"]["list"][0]
    assert (variable["type"], variable["current"]["value"]) == ("datasource", source["uid"])
