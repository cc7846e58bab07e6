import pytest

from tests.deploy.compose import COMPOSE_FILE, Compose, canonical


@pytest.fixture(scope="session")
def project() -> Compose:
    return canonical(COMPOSE_FILE)


@pytest.fixture(scope="session")
def services(project: Compose) -> dict[str, Compose]:
    found: dict[str, Compose] = project["services"]
    return found
