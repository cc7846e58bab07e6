"""The images of the services: built here, pulled, or stand-ins."""

import os
import shutil
import tempfile
from collections.abc import Iterable
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

from sandbox.broker.jars import POM, kafka_version
from sandbox.containers.bases import base_of, make_base
from sandbox.containers.engine import ROOT, Engine, run_program
from sandbox.containers.pip_settings import build_volumes
from sandbox.containers.plan import Service

_FOLDER = Path(__file__).with_name("stand_ins")
_SANDBOX = "deploy/sandbox.Dockerfile"
_BUILD_S = 3600.0
_PULL_S = 600.0
_FETCH_S = 900.0
# Where a process may not raise its limits or make namespaces, a build fails with podman's defaults.
_BUILD = ("build", "--isolation", "chroot", "--network", "host", "--pull=never")
_BUILD_LIMITS = ("--ulimit", "nofile=1024:1024", "--ulimit", "nproc=1000:1000")


@dataclass(frozen=True, slots=True)
class Image:
    """One image that a service uses.

    Attributes:
        stand_in: what it has instead of the named image; None for the image itself.
        size, base_size: in bytes; the base's is that of the image that its Dockerfile starts from.
    """

    name: str
    stand_in: str | None
    size: int
    base_size: int = 0


@dataclass(frozen=True, slots=True)
class _StandIn:
    dockerfile: str
    base: str
    kind: str | None
    text: str
    arguments: tuple[str, ...] = ()


def prepare(engine: Engine, services: Iterable[Service]) -> dict[str, Image]:
    """The images by name. A service without an entry cannot run here.

    Raises:
        ContainerError: a build failed, or a base image cannot be made.
    """
    found: dict[str, Image] = {}
    services = list(services)
    sandbox = next(service.image for service in services if service.dockerfile == _SANDBOX)
    # Those that are built here first: a stand-in starts from one of them.
    for service in sorted(services, key=lambda each: each.dockerfile is None):
        if service.image in found:
            continue
        if service.dockerfile:
            image: Image | None = _built(engine, service)
        else:
            image = _pulled(engine, service) or _stand_in(engine, service, sandbox)
        if image is not None:
            found[service.image] = image
    return found


def _built(engine: Engine, service: Service) -> Image:
    dockerfile = ROOT / str(service.dockerfile)
    base = base_of(dockerfile)
    stand_in = None
    if not _pull(engine, base):
        make_base(engine, "python", base)
        stand_in = "on Debian's Python"
    _build(engine, service.image, dockerfile, ROOT)
    return Image(service.image, stand_in, _size(engine, service.image), _size(engine, base))


def _pulled(engine: Engine, service: Service) -> Image | None:
    if not _pull(engine, service.image):
        return None
    return Image(service.image, None, _size(engine, service.image))


def _stand_in(engine: Engine, service: Service, sandbox: str) -> Image | None:
    repository = service.image.partition(":")[0]
    stand_in = _stand_ins(sandbox).get(repository)
    if stand_in is None:
        return None
    if stand_in.kind is not None:
        make_base(engine, stand_in.kind, stand_in.base)
    with tempfile.TemporaryDirectory() as folder:
        context = Path(folder)
        for file in _FOLDER.iterdir():
            shutil.copy(file, context)
        if repository == "apache/kafka":
            _fetch_kafka(context)
        arguments = (f"BASE=localhost/{stand_in.base}", *stand_in.arguments)
        _build(engine, service.image, context / stand_in.dockerfile, context, *arguments)
    return Image(service.image, stand_in.text, _size(engine, service.image))


def _stand_ins(sandbox: str) -> dict[str, _StandIn]:
    """By repository; `sandbox` is the name of the sandbox's image."""
    return {
        "apache/kafka": _StandIn(
            "kafka.Dockerfile", "ctr-base:java", "java", f"Apache Kafka {kafka_version()} on Debian's Java 17"
        ),
        "tensorflow/serving": _StandIn(
            "model_server.Dockerfile", sandbox, None, f"the sandbox's server on TensorFlow {version('tensorflow')}"
        ),
        "prom/prometheus": _StandIn(
            "monitoring.Dockerfile",
            "ctr-base:prometheus",
            "prometheus",
            "Debian's Prometheus",
            ("PROGRAM=prometheus", "DATA=/prometheus"),
        ),
        "prom/alertmanager": _StandIn(
            "monitoring.Dockerfile",
            "ctr-base:alertmanager",
            "alertmanager",
            "Debian's Alertmanager",
            ("PROGRAM=prometheus-alertmanager", "DATA=/alertmanager"),
        ),
    }


def image_pom(pom: str) -> str:
    """The broker's pom with the tools that the image's health check uses. Pure."""
    tools = f"""    <dependency>
      <groupId>org.apache.kafka</groupId>
      <artifactId>kafka-tools</artifactId>
      <version>{kafka_version()}</version>
    </dependency>
"""
    return pom.replace("  </dependencies>", f"{tools}  </dependencies>")


def _fetch_kafka(context: Path) -> None:
    (context / "pom.xml").write_text(image_pom(POM.read_text("utf-8")), "utf-8")
    command = ["mvn", "--batch-mode", "--quiet", "dependency:copy-dependencies"]
    command += [f"-DoutputDirectory={context / 'libs'}", "-DincludeScope=runtime"]
    run_program(command, os.environ, _FETCH_S, context)


def _pull(engine: Engine, name: str) -> bool:
    """Whether the image is there or a registry of this machine's configuration of podman has it."""
    if engine.succeeds("image", "exists", f"localhost/{name}"):
        return False
    return engine.succeeds("pull", "--quiet", name, timeout_s=_PULL_S)


def _build(engine: Engine, name: str, dockerfile: Path, context: Path, *arguments: str) -> None:
    options = [word for argument in arguments for word in ("--build-arg", argument)]
    options += build_volumes(engine.folder)
    engine.podman(
        *_BUILD, *_BUILD_LIMITS, *options, "--file", str(dockerfile), "--tag", name, str(context), timeout_s=_BUILD_S
    )


def _size(engine: Engine, name: str) -> int:
    return int(engine.podman("image", "inspect", "--format", "{{.Size}}", name))
