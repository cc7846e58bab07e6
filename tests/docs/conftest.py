from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.docs.shells import Shells


@pytest.fixture
def shells(tmp_path: Path) -> Iterator[Shells]:
    with ExitStack() as stack:
        yield Shells(tmp_path, stack)
