"""Every task and every try of a DAG run derives the same names."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta, timezone
from types import SimpleNamespace

import pytest

from common import run_ids

SIX = datetime(2026, 3, 1, 6, 0, tzinfo=UTC)


def dag_run(run_id: str = "scheduled__2026-03-01T06:00:00+00:00", **more: object) -> SimpleNamespace:
    return SimpleNamespace(
        **{"dag_id": "daily", "run_id": run_id, "logical_date": SIX, "run_after": SIX + timedelta(days=1)}
        | more
    )


def test_the_library_accepts_the_run_id_and_reads_its_time() -> None:
    from lakehouse.runs import run_time

    assert run_time(run_ids.of_dag_run(dag_run())) == SIX


def test_the_run_id_depends_on_the_run_and_nothing_else() -> None:
    one = run_ids.of_dag_run(dag_run())

    assert one == run_ids.of_dag_run(dag_run(start_date=datetime.now(UTC), clear_number=3))
    assert run_ids.PATTERN.match(one)
    assert one != run_ids.of_dag_run(dag_run("manual__2026-03-01T06:00:00+00:00"))
    assert one != run_ids.of_dag_run(dag_run(dag_id="weekly"))


def test_a_run_without_a_logical_date_has_the_time_it_became_due() -> None:
    assert run_ids.of_dag_run(dag_run(logical_date=None)).startswith("20260302T060000Z-")


def test_the_time_is_utc() -> None:
    local = datetime(2026, 3, 1, 7, 0, tzinfo=timezone(timedelta(hours=1)))
    assert run_ids.of_dag_run(dag_run(logical_date=local)) == run_ids.of_dag_run(dag_run())


def test_a_run_can_be_repeated_under_its_own_id() -> None:
    known = run_ids.of_dag_run(dag_run("another"))
    assert run_ids.of_dag_run(dag_run(), known) == known
    with pytest.raises(ValueError, match="'yesterday' is not of the form"):
        run_ids.of_dag_run(dag_run(), "yesterday")


def test_a_long_job_name_is_cut_and_stays_unique() -> None:
    long = "manual__" + "x" * 250
    one, other = run_ids.job_name("daily", long, "a" * 60), run_ids.job_name("daily", long, "a" * 59 + "b")
    assert len(one) == len(other) == 256
    assert one != other
    assert run_ids.job_name("daily", "run", "task") == "daily:run:task"
    assert run_ids.job_name("daily", "run", "task", 2) == "daily:run:task:2"


@pytest.mark.parametrize("name", ["daily:run:task", "täglich:läuft+00:00:größe", "x" * 256])
def test_a_client_token_is_what_emr_accepts(name: str) -> None:
    assert re.fullmatch(r"[A-Za-z0-9._-]{1,64}", run_ids.client_token(name, 1, "01a1fb98"))


def test_a_client_token_names_one_try() -> None:
    first = run_ids.client_token("daily:run:task", 1, "a")
    assert first == run_ids.client_token("daily:run:task", 1, "a")
    assert (
        len({first, *(run_ids.client_token(*x) for x in [("d:r:t", 1, "a"), ("daily:run:task", 2, "a")])})
        == 3
    )
    # Another metadata database, another instance: EMR must not answer with the job of the old one.
    assert first != run_ids.client_token("daily:run:task", 1, "b")
