"""What the images are built from."""

from pathlib import Path

import pytest

from sandbox.broker.jars import POM, kafka_version
from sandbox.containers.bases import base_of
from sandbox.containers.errors import ContainerError
from sandbox.containers.images import image_pom
from sandbox.containers.pip_settings import merged
from sandbox.containers.requirements import PACKAGES
from tests.deploy.compose import ROOT


def test_the_image_of_kafka_has_the_tools_of_the_tested_version() -> None:
    pom = image_pom(POM.read_text("utf-8"))
    assert pom.count(f"<version>{kafka_version()}</version>") == 2
    assert pom.index("kafka-tools") < pom.index("</dependencies>")


def test_a_base_is_read_from_the_dockerfile(tmp_path: Path) -> None:
    file = tmp_path / "Dockerfile"
    file.write_text("# a comment\nFROM python:3.0.1 AS build\n")
    assert base_of(file) == "python:3.0.1"
    file.write_text("RUN true\n")
    with pytest.raises(ContainerError, match="no FROM"):
        base_of(file)


def test_settings_of_pip_are_those_of_the_machine() -> None:
    files = ["[global]\nindex-url = one\ncert = /a\nno-cache-dir = true\n", "[install]\nindex-url = 100%two\n"]
    assert merged(files, {"PIP_CERT": "/b", "PIP_NO_INPUT": "1"}) == {"index-url": "100%two", "cert": "/b"}
    assert merged([], {"REQUESTS_CA_BUNDLE": "/c"}) == {"cert": "/c"}
    assert merged([], {}) == {}


def test_the_page_names_the_packages() -> None:
    assert f"apt-get install {' '.join(PACKAGES)}`" in (ROOT / "docs/deployment.md").read_text("utf-8")
