"""The ECB's euro reference rates: daily XML, 90 days and full history as XML, full history as zipped CSV."""

from __future__ import annotations

import csv
import io
import zipfile
from collections.abc import Callable
from datetime import date, timedelta
from xml.sax.saxutils import quoteattr

from local.saas.store import Record, Store
from local.saas.web import Answer, Fault, Request, Service
from local.samples import fx

RATES = "ecb.rates"
ROOT = "/stats/eurofxref"
NO_QUOTE = fx.NO_QUOTE

# The order of the ECB's own columns; other currencies follow in alphabetical order.
KNOWN = fx.COLUMNS


class Ecb(Service):
    name = "ecb"

    def __init__(self, store: Store, as_of: Callable[[], str | None]) -> None:
        self._store = store
        self._as_of = as_of

    def answer(self, request: Request) -> Answer:
        if request.method not in ("GET", "HEAD"):
            return _page(405, "Method Not Allowed")
        rows = self._published()
        name = request.path.removeprefix(f"{ROOT}/")
        if name == "eurofxref-daily.xml":
            newest = rows[0].id if rows else None
            return _xml([row for row in rows if row.id == newest], quote="'")
        if name == "eurofxref-hist-90d.xml":
            return _xml(_last_90_days(rows), quote='"')
        if name == "eurofxref-hist.xml":
            return _xml(rows, quote='"')
        if name == "eurofxref-hist.csv":
            return Answer(200, _csv(rows), "text/csv")
        if name == "eurofxref-hist.zip":
            return Answer(200, _zip("eurofxref-hist.csv", _csv(rows)), "application/zip")
        if name == "eurofxref.zip":
            newest = rows[0].id if rows else None
            return Answer(
                200, _zip("eurofxref.csv", _csv([r for r in rows if r.id == newest])), "application/zip"
            )
        return _page(404, "Not Found")

    def failure(self, fault: Fault) -> Answer:
        answer = _page(fault.status, fault.code or "Service Unavailable")
        if fault.retry_after is None:
            return answer
        return Answer(answer.status, answer.body, answer.content_type, {"Retry-After": fault.retry_after})

    def _published(self) -> list[Record]:
        """Newest first; several rows of one day keep the order of their file."""
        limit = self._as_of()
        rows = [r for r in self._store.records(RATES) if limit is None or r.id <= limit]
        rows.sort(key=lambda r: r.seq)
        rows.sort(key=lambda r: r.id, reverse=True)
        return rows


def rows_of_load(rows: list[dict[str, object]]) -> list[tuple[str, int, dict[str, object]]]:
    """Rows as {"date": text, "quotes": {ccy: text}} in the store's form. The date may be any text."""
    return [(str(row["date"]), 0, row) for row in rows]


def _quotes(row: Record) -> dict[str, str]:
    quotes: dict[str, str] = row.fields["quotes"]
    return quotes


def _columns(rows: list[Record]) -> list[str]:
    present = {ccy for row in rows for ccy in _quotes(row)}
    return [c for c in KNOWN if c in present] + sorted(present.difference(KNOWN))


def _csv(rows: list[Record]) -> bytes:
    """The ECB's table: a trailing comma on every line, N/A for no quote."""
    columns = _columns(rows)
    buffer = io.StringIO(newline="")
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(["Date", *columns, ""])
    for row in rows:
        quotes = _quotes(row)
        writer.writerow([row.id, *(quotes.get(ccy, NO_QUOTE) for ccy in columns), ""])
    return buffer.getvalue().encode("utf-8")


def _zip(name: str, data: bytes) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(zipfile.ZipInfo(name, (2000, 1, 1, 0, 0, 0)), data, zipfile.ZIP_DEFLATED)
    return buffer.getvalue()


def _xml(rows: list[Record], quote: str) -> Answer:
    """The gesmes envelope. A currency without a quote is absent, as in the ECB's."""
    lines = [
        '<?xml version="1.0" encoding="UTF-8"?>',
        '<gesmes:Envelope xmlns:gesmes="http://www.gesmes.org/xml/2002-08-01" '
        'xmlns="http://www.ecb.int/vocabulary/2002-08-01/eurofxref">',
        "\t<gesmes:subject>Reference rates</gesmes:subject>",
        "\t<gesmes:Sender>",
        "\t\t<gesmes:name>European Central Bank</gesmes:name>",
        "\t</gesmes:Sender>",
        "\t<Cube>",
    ]
    columns = _columns(rows)
    for row in rows:
        lines.append(f"\t\t<Cube time={_attribute(row.id, quote)}>")
        quotes = _quotes(row)
        for ccy in columns:
            if quotes.get(ccy, NO_QUOTE) != NO_QUOTE:
                rate = _attribute(quotes[ccy], quote)
                lines.append(f"\t\t\t<Cube currency={_attribute(ccy, quote)} rate={rate}/>")
        lines.append("\t\t</Cube>")
    lines += ["\t</Cube>", "</gesmes:Envelope>"]
    return Answer(200, "\n".join(lines).encode("utf-8"), "text/xml")


def _attribute(text: str, quote: str) -> str:
    # The daily file quotes with apostrophes, the histories with double quotes.
    return quoteattr(text) if quote == '"' or "'" in text else quote + quoteattr(text)[1:-1] + quote


def _last_90_days(rows: list[Record]) -> list[Record]:
    days = {}
    for row in rows:
        try:
            days[row.seq] = date.fromisoformat(row.id)
        except ValueError:
            continue
    if not days:
        return rows
    newest = max(days.values())
    return [row for row in rows if row.seq not in days or newest - days[row.seq] <= timedelta(days=90)]


def _page(status: int, text: str) -> Answer:
    return Answer(status, f"<html><body><h1>{status} {text}</h1></body></html>".encode(), "text/html")
