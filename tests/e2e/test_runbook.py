"""Procedures of the runbook, followed as printed after a real fault; `make runbook-test` follows all of them."""

from __future__ import annotations

import pytest

from local import days, runbook, runbook_lake
from local.runbook_faults import FAULTS
from local.runbook_run import execute
from local.stack import Stack
from tests.e2e.conftest import World

pytestmark = pytest.mark.timeout(900)


@pytest.fixture(scope="module")
def running(world: World) -> Stack:
    """The stack of a lake that Athena knows."""
    assert world.run("register_glue_tables", days.run_id(1)) == 0
    return world.stack


@pytest.mark.parametrize("name", [pytest.param("glue-out-of-step", marks=pytest.mark.proof), "table-dropped"])
def test_a_procedure_followed_as_printed_leads_back(running: Stack, name: str) -> None:
    procedure, fault = runbook.load().procedure(name), FAULTS[name]
    before = runbook_lake.rows(running)
    variables = fault.inject(running)
    if fault.shows:
        assert fault.shows(running)
    else:
        assert runbook_lake.differences(before, runbook_lake.rows(running))

    done = execute(procedure, running, variables)

    assert done.returncode == 0, done.stdout
    assert runbook_lake.differences(before, runbook_lake.rows(running)) == []
    assert not (fault.shows and fault.shows(running))
