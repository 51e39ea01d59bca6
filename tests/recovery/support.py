"""A lake whose Silver is promoted and judged as the daily run does it, and recovered as a person does it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from types import ModuleType
from typing import Any

import pyarrow as pa
import pytest
from pyspark.sql import Row

from lakehouse import store
from lakehouse.delta.broken import data_files
from lakehouse.delta.read import head
from lakehouse.flows import gate, promote
from lakehouse.flows.ingest import certification
from lakehouse.flows.recovery import base, gold, repair, runs, silver, versions
from lakehouse.landing import Kind, LandingWriter
from lakehouse.quality.verdicts import Certification
from lakehouse.sources.watermark import backfilled
from lakehouse.tables.silver import vendor_shipments
from tests.quality.quarantine_support import ORDER_FIELDS, Lake, a_shipment
from tests.quality.support import NOON

ACTIONS: dict[str, base.Action] = {
    "recertify": runs.recertify,
    "discard": runs.discard,
    "repair": repair.repair,
    "restore-silver": silver.restore_silver,
    "rollback": versions.rollback,
    "complete-publication": gold.complete_publication,
    "rebuild-gold": gold.rebuild_gold,
}
RECOVERED_AT = datetime(2026, 3, 1, tzinfo=UTC)


class Killed(BaseException):
    """What ends a process at once: nothing catches it."""


@contextmanager
def killed_at(patch: pytest.MonkeyPatch, where: Any, name: str) -> Iterator[None]:
    """Die where a function would be called."""

    def die(*_: Any, **__: Any) -> None:
        raise Killed

    with patch.context() as inner:
        inner.setattr(where, name, die)
        try:
            yield
        except Killed:
            return
    pytest.fail(f"{name} was not called")


class Recoverable(Lake):
    """Runs with windows, promotions, recoveries."""

    def ordered(self, *rows: Mapping[str, Any], hours: float, since: datetime | None) -> str:
        """A run of the warehouse with a window; its rows are judged and certified."""
        return self._ordered(rows, "snowflake_to_bronze", hours, since, NOON + timedelta(hours=hours))

    def backfilled(self, *rows: Mapping[str, Any], hours: float, since: datetime) -> str:
        """A chunk of a backfill of the warehouse that is certified."""
        return self._ordered(rows, "backfill_snowflake_to_bronze", hours, since, None)

    def _ordered(
        self,
        rows: Sequence[Mapping[str, Any]],
        job_name: str,
        hours: float,
        since: datetime | None,
        until: datetime | None,
    ) -> str:
        job = self.job(job_name, at=NOON + timedelta(hours=hours))
        kind: Kind = "window" if until is not None else "backfill"
        writer = LandingWriter(self.settings, "snowflake", "snowflake_orders", job.run_id, kind=kind)
        columns = {name: pa.array([row[name] for row in rows], type) for name, type in ORDER_FIELDS.items()}
        writer.write_arrow(pa.table(columns))
        notes = [] if since is None or until is not None else [backfilled(since, since + timedelta(days=1))]
        run = self._load(job, writer.commit(window_from=since, window_to=until, notes=notes))
        self.certify(run, "bronze.snowflake_orders")
        return run

    def shipped(self, *rows: Mapping[str, Any], hours: int) -> str:
        """A run of the vendor that is certified."""
        run = self.shipments(*rows, hours=hours)
        self.certify(run, "bronze.vendor_shipments")
        return run

    def promote(self, run: str, module: ModuleType = vendor_shipments) -> None:
        """One Silver table brought up to date and judged, as the daily run does it."""
        job = self.job("bronze_to_silver", run)
        known = {}
        for name in module.INPUTS:
            live = head(self.spark, self.settings.table_uri(name))
            found = self.known(name)
            if found.version is None:
                found = found.model_copy(update={"version": live.version})
            known[name] = (live, found)
        promote._promote(job, module, known)
        gate.gate(self.spark, self.settings, "silver", run, [module.TABLE], datetime.now(UTC))

    def known(self, name: str) -> Certification:
        return certification(self.job("look"), name)

    def version(self, name: str) -> int:
        return head(self.spark, self.settings.table_uri(name)).version

    def recover(self, action: str, run_id: str | None = None, *, apply: bool = True, **asked: Any) -> str:
        """A recovery as scripts/recover.py runs it; returns its words."""
        words: list[str] = []
        job = self.job(base.JOB, run_id, at=RECOVERED_AT)
        request = base.Request(action=action, by="anna", why="a test", **asked)
        tell: Callable[[str], None] = words.append
        base.recover(job, ACTIONS[action], request, apply=apply, tell=tell)
        return "\n".join(words)

    def logged(self, run_id: str) -> list[Row]:
        return self.table(base.LOG).where(f"run_id = '{run_id}'").orderBy("table_name").collect()

    def silver(self, prefix: str) -> list[tuple[Any, ...]]:
        """Shipments of a test in Silver, whoever brought them."""
        rows = self.table("silver.vendor_shipments").where(f"id LIKE '{prefix}%'").drop("_run_id")
        return [tuple(row) for row in rows.orderBy("id").collect()]


def shipments(prefix: str, first: int, last: int, **changes: Any) -> list[dict[str, Any]]:
    """Good lines of a vendor file of their own."""
    return [
        a_shipment(n, shipment_id=f"{prefix}-{n:03d}", **({"file": f"{prefix}.csv"} | changes))
        for n in range(first, last + 1)
    ]


def destroyed(uri: str, body: bytes | None) -> None:
    """Replace an object (None: delete it) so that the bucket keeps nothing of it."""
    bucket, key = store.split(uri)
    pages = store.client().get_paginator("list_object_versions").paginate(Bucket=bucket, Prefix=key)
    for each in [
        one for page in pages for kind in ("Versions", "DeleteMarkers") for one in page.get(kind, [])
    ]:
        if each["Key"] == key:
            store.client().delete_object(Bucket=bucket, Key=key, VersionId=each["VersionId"])
    if body is not None:
        store.put(uri, body)


def copied(source_uri: str, target_uri: str) -> None:
    """A lake once more, at another place: its tables name their files from where they are, its objects name tables."""
    for uri in list(store.keys(f"{source_uri}/")):
        store.copy(uri, f"{target_uri}{uri.removeprefix(source_uri)}")


def data_of(uri: str) -> list[str]:
    """The data files of a table's newest version, the largest first."""
    return [each.uri for each in sorted(data_files(uri), key=lambda each: -each.bytes)]
