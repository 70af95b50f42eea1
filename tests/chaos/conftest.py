from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.chaos.servers import Servers


@pytest.fixture(scope="module")
def servers() -> Iterator[Servers]:
    made = Servers()
    yield made
    made.close()
