"""A local AWS with the lake of lake.py, registered in Glue: one for the tests of this folder."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from local import stack
from local.stack import Stack
from local.supervisor import Supervisor
from tests.athena_queries import lake as rows


@pytest.fixture(scope="session")
def lakehouse(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    state = tmp_path_factory.mktemp("analysts")
    try:
        running = stack.up(state, lambda _: None, only=["aws"])
        rows.build(running)
        yield running
    finally:
        Supervisor(state).stop("aws")
