from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.secure_servers import Servers, secure_servers
from tests.support.secured import Secured


@pytest.fixture(scope="session")
def servers() -> Iterator[Servers]:
    with secure_servers() as found:
        yield found


@pytest.fixture
def secured(servers: Servers, name: str, tmp_path: Path) -> Secured:
    """The program, with a pipeline that nobody has heard of yet."""
    return Secured(servers, name, tmp_path)
