"""The sample queries on a real Trino, over the same tables through the same Glue: the answers are the same."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from local import trino
from local.sample_queries import load
from local.stack import Stack
from local.supervisor import Supervisor
from tests.athena_queries.answers import answer
from tests.support import REPO, free_port

if trino.JDK_VARIABLE not in os.environ:
    pytest.skip("needs a JDK 24: `make test-athena` runs it", allow_module_level=True)
# Its start takes eight seconds on a free machine, and minutes on one that is busy.
START_SECONDS = 900.0
pytestmark = pytest.mark.timeout(1200)
QUERIES = load()


@pytest.fixture(scope="module")
def url(lakehouse: Stack, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    state, port = tmp_path_factory.mktemp("trino"), free_port()
    jdk = Path(os.environ[trino.JDK_VARIABLE])
    supervisor = Supervisor(state)
    spec = trino.spec(trino.fetch(), jdk, state, port, lakehouse.exports)
    supervisor.start(spec, REPO)
    try:
        supervisor.wait_ready(spec, timeout=START_SECONDS)
        yield f"http://127.0.0.1:{port}"
    finally:
        supervisor.stop(spec.name)


@pytest.mark.parametrize("name", list(QUERIES))
def test_a_query_answers_what_the_rows_say(url: str, name: str) -> None:
    columns, rows = answer(name)
    got = trino.ask(url, QUERIES[name].sql)
    assert got.columns == columns
    assert got.rows == rows


def test_what_trino_refuses_is_told(url: str) -> None:
    with pytest.raises(trino.TrinoError, match="COLUMN_NOT_FOUND: line 1:8"):
        trino.ask(url, "SELECT nope FROM lakehouse_gold.fact_orders")
