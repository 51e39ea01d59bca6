"""What reconcile proposes where a source has records that the lake lacks."""

from __future__ import annotations

import argparse
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from lakehouse.cli import Job
from lakehouse.flows import reconcile
from lakehouse.observe.outcome import Outcome
from lakehouse.runs import new_run_id, run_time
from lakehouse.session import local_frame
from tests.quality.support import make_settings

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

NOW = datetime(2026, 1, 4, 9, tzinfo=UTC)


def test_missing_records_propose_their_days_and_not_the_years_between(spark: SparkSession) -> None:
    run_id = new_run_id(NOW)
    job = Job(
        "reconcile",
        make_settings("s3://nowhere"),
        run_id,
        Outcome(job="reconcile", run_id=run_id, started_at=run_time(run_id)),
        argparse.Namespace(),
    )
    times = ["2019-05-01 10:00:00", "2026-01-02 23:59:59", "2026-01-03 00:00:00", "2026-01-03 05:00:00"]
    rows = [(datetime.fromisoformat(f"{each}+00:00"), True, False, True, False) for each in times]
    rows += [(NOW, True, True, False, False), (None, False, True, False, True)]  # type: ignore[list-item]
    compared = local_frame(
        spark,
        rows,
        "modified_at timestamp, is_given boolean, is_live boolean, is_missing boolean, is_gone boolean",
    )

    found = reconcile._found(job, "silver.hubspot_contacts", "hubspot", compared)

    assert (found.source_rows, found.lake_rows, found.missing, found.gone) == (5, 2, 4, 1)
    assert found.proposal == (
        "scripts/emr_submit.sh backfill --source hubspot --from 2019-05-01 --to 2019-05-01; "
        "scripts/emr_submit.sh backfill --source hubspot --from 2026-01-02 --to 2026-01-03; "
        "scripts/emr_submit.sh reconcile --ids --mark-gone"
    )
    assert found.closing_missing == (
        "scripts/emr_submit.sh backfill --source hubspot --from 2019-05-01 --to 2019-05-01; "
        "scripts/emr_submit.sh backfill --source hubspot --from 2026-01-02 --to 2026-01-03"
    )
    equal = reconcile._found(
        job, "silver.hubspot_contacts", "hubspot", compared.where("NOT is_missing AND is_live")
    )
    assert equal.missing == 0
