"""Write a data folder of sample data: python -m local.sample_data --out data_fixed

The same arguments give the same bytes. Day 1 is two years of history; day N (2, 3, ...) is what changed on the
day after, and --poison spoils that day's warehouse orders. manifest.json declares files, rows and every flaw.
"""

from __future__ import annotations

import argparse
import csv
import hashlib
import io
import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field, replace
from datetime import date, timedelta
from pathlib import Path

from local.data_layout import MANIFEST_NAME
from local.samples import crm, fx, orders
from local.samples.base import FLAW_SETS, POISONS, Flaws, Sizes, Spec


@dataclass
class Folder:
    """The files of one data folder while they are written."""

    out: Path
    files: dict[str, dict[str, object]] = field(default_factory=dict)

    def csv(
        self, name: str, header: Sequence[str], rows: Iterable[Sequence[str]], *, is_ended: bool = True
    ) -> None:
        """A file of rows; not ``is_ended``, its last line has no line break, as many systems write files."""
        buffer = io.StringIO(newline="")
        writer = csv.writer(buffer, lineterminator="\n")
        writer.writerow(header)
        writer.writerows(rows)
        # A quoted line break is one row, so the rows are counted where they are written.
        text = buffer.getvalue() if is_ended else buffer.getvalue().removesuffix("\n")
        self._write(name, text, rows=len(rows) if isinstance(rows, list) else -1)

    def json_lines(self, name: str, lines: list[dict[str, object]]) -> None:
        text = "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines)
        self._write(name, text, rows=len(lines))

    def _write(self, name: str, text: str, *, rows: int) -> None:
        data = text.encode("utf-8")
        (self.out / name).write_bytes(data)
        self.files[name] = {"rows": rows, "bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}


def generate(spec: Spec, out: Path) -> dict[str, object]:
    """Write the folder of one day and return its manifest. Files of an earlier sample there are removed."""
    if spec.poison and spec.day < 2:
        raise ValueError("a poisoned day needs --day 2 or later: the first day is the history")
    out.mkdir(parents=True, exist_ok=True)
    _clear(out)
    folder = Folder(out)
    flaws = Flaws(spec.flaws)
    base_accounts = crm.accounts(spec)
    events = orders.warehouse_events(spec, base_accounts)
    if spec.day == 1:
        _first_day(spec, folder, flaws, base_accounts, events)
    else:
        _later_day(spec, folder, flaws, base_accounts, events)
    manifest: dict[str, object] = {
        "format": 1,
        "spec": asdict(spec) | {"until": spec.until.isoformat()},
        "files": folder.files,
        "flaws": flaws.found,
        # The loader takes this as permission for files that lack these columns.
        "missing_columns": {"snowflake_orders": ["AMOUNT"]} if spec.poison == "missing_column" else {},
    }
    text = json.dumps(manifest, ensure_ascii=False, indent=1)
    (out / MANIFEST_NAME).write_text(text + "\n", encoding="utf-8", newline="\n")
    return manifest


def _clear(out: Path) -> None:
    """Remove what an earlier run of this command wrote here, and nothing else."""
    old = out / MANIFEST_NAME
    if not old.exists():
        return
    for name in json.loads(old.read_text(encoding="utf-8")).get("files", {}):
        if Path(name).name == name:
            (out / name).unlink(missing_ok=True)


def _first_day(
    spec: Spec, folder: Folder, flaws: Flaws, accounts: list[crm.Account], events: list[orders.Event]
) -> None:
    contacts = crm.contacts(spec, accounts, flaws)
    leads = crm.leads(spec, accounts)
    flaws.declare("bronze.salesforce_accounts", "deleted", "keep", [a.id for a in accounts if a.deleted])
    flaws.declare("bronze.salesforce_leads", "deleted", "keep", [lead.id for lead in leads if lead.deleted])
    folder.csv(f"hubspot_contacts_{len(contacts)}.csv", crm.CONTACT_HEADER, [c.row() for c in contacts])
    folder.csv(f"salesforce_accounts_{len(accounts)}.csv", crm.ACCOUNT_HEADER, [a.row() for a in accounts])
    folder.csv(f"salesforce_leads_{len(leads)}.csv", crm.LEAD_HEADER, [lead.row() for lead in leads])
    rows, flawless = orders.warehouse_rows(spec, events, flaws)
    folder.csv(f"snowflake_orders_{len(rows)}.csv", orders.ORDER_HEADER, rows)
    lines = orders.stream_lines(spec, flawless, accounts, flaws, 1)
    folder.json_lines(f"kafka_orders_{len(lines)}.jsonl", lines)
    for name, shipments in orders.shipment_files(spec, events, flaws, 1).items():
        folder.csv(name, orders.SHIPMENT_HEADER, shipments, is_ended=False)
    header, *quotes = fx.history_rows(spec, flaws, spec.until - timedelta(days=1))
    folder.csv("fx_rates_history.csv", header, quotes)


def _later_day(
    spec: Spec, folder: Folder, flaws: Flaws, accounts: list[crm.Account], events: list[orders.Event]
) -> None:
    tag = f"day{spec.day}"
    # The flaws of the first day are declared in its own manifest.
    contacts = crm.contacts(spec, accounts, Flaws(spec.flaws))
    leads = crm.leads(spec, accounts)
    changed_contacts = crm.changed_contacts(spec, contacts, accounts, flaws)
    folder.csv(f"hubspot_contacts_{tag}.csv", crm.CONTACT_HEADER, [c.row() for c in changed_contacts])
    changed_accounts = crm.changed_accounts(spec, accounts, flaws)
    folder.csv(f"salesforce_accounts_{tag}.csv", crm.ACCOUNT_HEADER, [a.row() for a in changed_accounts])
    changed_leads = crm.changed_leads(spec, leads, accounts, flaws)
    folder.csv(f"salesforce_leads_{tag}.csv", crm.LEAD_HEADER, [lead.row() for lead in changed_leads])
    new_events = orders.later_events(spec, events, accounts, flaws)
    header, rows = list(orders.ORDER_HEADER), [event.row() for event in new_events]
    if spec.poison:
        header, rows = orders.poisoned_rows(spec, new_events, flaws)
    suffix = f"{tag}_{spec.poison}" if spec.poison else tag
    folder.csv(f"snowflake_orders_{suffix}.csv", header, rows)
    folder.json_lines(
        f"kafka_orders_{tag}.jsonl", orders.stream_lines(spec, new_events, accounts, flaws, spec.day)
    )
    for name, shipments in orders.shipment_files(spec, events, flaws, spec.day).items():
        folder.csv(name, orders.SHIPMENT_HEADER, shipments, is_ended=False)
    today = spec.until + timedelta(days=spec.day - 2)
    fx_header, *quotes = fx.history_rows(spec, Flaws("none"), today)
    quotes = [row for row in quotes if row[0] == today.isoformat()]
    if quotes:  # none at weekends and on TARGET holidays
        folder.csv(f"fx_rates_{tag}.csv", fx_header, quotes)


def summary(manifest: dict[str, object]) -> str:
    lines = []
    files = manifest["files"]
    flaws = manifest["flaws"]
    assert isinstance(files, dict)
    assert isinstance(flaws, dict)
    for name, facts in files.items():
        lines.append(f"  {name:40} {facts['rows']:>8,} rows {facts['bytes'] / 1e6:>8.1f} MB")
    for table, kinds in flaws.items():
        told = ", ".join(f"{kind} {facts['rows']}" for kind, facts in kinds.items() if facts["rows"])
        if told:
            lines.append(f"  {table}: {told}")
    return "\n".join(lines)


def parser() -> argparse.ArgumentParser:
    sizes = Sizes()
    result = argparse.ArgumentParser(prog="python -m local.sample_data", description=__doc__)
    result.add_argument("--out", type=Path, default=Path("data_fixed"), help="folder to write")
    result.add_argument("--seed", type=int, default=20261101)
    result.add_argument(
        "--until",
        type=date.fromisoformat,
        help="end of the first day's data (default: the seed read as a date)",
    )
    for name, default in asdict(sizes).items():
        result.add_argument(f"--{name}", type=int, default=default, help=f"default {default}")
    result.add_argument(
        "--flaws", choices=FLAW_SETS, default="real", help="'all' has at least one of every kind"
    )
    result.add_argument(
        "--day", type=int, default=1, help="1 is the history, 2 and later what changed on that day"
    )
    result.add_argument("--poison", choices=POISONS, help="spoil that day's warehouse orders")
    return result


def seed_date(seed: int) -> date:
    text = str(seed)
    try:
        return date(int(text[:4]), int(text[4:6]), int(text[6:8])) if len(text) == 8 else Spec.until
    except ValueError:
        return Spec.until


def main(argv: Sequence[str] | None = None) -> int:
    args = parser().parse_args(argv)
    spec = Spec(
        seed=args.seed,
        until=args.until or seed_date(args.seed),
        sizes=Sizes(**{name: getattr(args, name) for name in asdict(Sizes())}),
        flaws=args.flaws,
        day=args.day,
        poison=args.poison,
    )
    if spec.poison and spec.day < 2:
        spec = replace(spec, day=2)
    manifest = generate(spec, args.out)
    print(f"sample data in {args.out}\n{summary(manifest)}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
