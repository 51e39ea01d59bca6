"""ECB euro reference rates to landing files, as quoted: units of a currency for one euro.

The document that is read every day is the 90-day file: the ECB corrects quotes of days gone by, and its one-day file
would never tell. The history (all days since 1999) is read the first time, and where the document does not reach back
to the beginning of the window.
"""

from __future__ import annotations

import io
import zipfile
import zlib
from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, date, datetime, time
from typing import Any
from xml.etree import ElementTree

import requests

from lakehouse.errors import SourceError
from lakehouse.landing import POSITION, LandingWriter, Manifest, read_manifest
from lakehouse.published import ComeBackLater
from lakehouse.runs import run_time
from lakehouse.settings import Settings
from lakehouse.sources.csv_text import Record, records
from lakehouse.sources.fields import source_fields
from lakehouse.sources.retry import http_failure, patiently
from lakehouse.sources.watermark import Newest, Watermark, backfilled, overlap, window_end

SOURCE, TABLE = "fx", "fx_rates"
_DAILY = "eurofxref-hist-90d.xml"
_TIMEOUT = (10.0, 60.0)
_ZIP = b"PK"
_CHUNK = 1 << 16

Row = dict[str, Any]


def extract(settings: Settings, run_id: str, watermarks: Mapping[str, Watermark]) -> tuple[Manifest, ...]:
    """Land quotes dated since the watermark, less seven days for corrections; no quote ("N/A", empty), no row.

    Raises SourceUnavailable, SourceError where a document is not what the ECB describes.
    """
    landed = read_manifest(settings, SOURCE, TABLE, run_id)
    if landed is not None:
        return (landed,)
    watermark = watermarks.get(TABLE, Watermark())
    since = watermark.since(overlap(settings, SOURCE))
    writer = LandingWriter(settings, SOURCE, TABLE, run_id)
    notes: list[str] = []

    read_at = datetime.now(UTC)
    daily_body = _get(settings, settings.sources.fx.daily_url)
    daily = list(parse_daily(daily_body))
    writer.write_original(_DAILY, daily_body)
    rows = daily
    if needs_history(since, daily):
        body = _get(settings, settings.sources.fx.history_url)
        writer.write_original(f"eurofxref-hist.{'zip' if body.startswith(_ZIP) else 'csv'}", body)
        history = list(parse_history(body, settings.sources.fx.max_document_bytes))
        known = {_quote(row) for row in history}
        rows = [*history, *(row for row in daily if _quote(row) not in known)]
        notes.append("fx: the history was read")

    newest = Newest()
    writer.write_rows(_window(rows, since, newest))
    manifest = writer.commit(
        window_from=since,
        window_to=window_end(newest.time, watermark, min(run_time(run_id), read_at)),
        fields=source_fields(TABLE),
        notes=notes,
    )
    return (manifest,)


def backfill(settings: Settings, run_id: str, since: datetime, until: datetime) -> tuple[Manifest, ...]:
    """Land the history's quotes dated in [since, until). Raises as ``extract`` does."""
    landed = read_manifest(settings, SOURCE, TABLE, run_id)
    if landed is not None:
        return (landed,)
    writer = LandingWriter(settings, SOURCE, TABLE, run_id, kind="backfill")
    body = _get(settings, settings.sources.fx.history_url)
    writer.write_original(f"eurofxref-hist.{'zip' if body.startswith(_ZIP) else 'csv'}", body)
    writer.write_rows(
        row
        for row in parse_history(body, settings.sources.fx.max_document_bytes)
        if (day := _day(row["as_of_date"])) is not None and since.date() <= day < until.date()
    )
    manifest = writer.commit(
        window_from=since, window_to=None, fields=source_fields(TABLE), notes=[backfilled(since, until)]
    )
    return (manifest,)


def needs_history(since: datetime | None, daily: Iterable[Row]) -> bool:
    """Whether the daily document does not reach back to the beginning of the window."""
    oldest = min((day for row in daily if (day := _day(row["as_of_date"]))), default=None)
    return since is None or oldest is None or oldest > since.date()


def parse_daily(body: bytes) -> Iterator[Row]:
    """Quotes of eurofxref-hist-90d.xml (or of eurofxref-daily.xml, which has the same form)."""
    try:
        parser = ElementTree.XMLParser(target=_PlainXml())  # nosec B314  # it refuses entities
        root = ElementTree.fromstring(body, parser=parser)  # nosec B314
    except ElementTree.ParseError as error:
        raise _malformed(_DAILY, f"XML that ends in {error}", "well-formed XML") from None
    if not root.tag.endswith("Envelope"):
        raise _malformed(_DAILY, f"<{root.tag}>", "a gesmes:Envelope")
    days = [element for element in root.iter() if "time" in element.attrib]
    quotes = [
        (day.attrib["time"], quote.attrib) for day in days for quote in day if "currency" in quote.attrib
    ]
    for number, (day, quote) in enumerate(quotes):
        yield from _row("daily", number, day, quote["currency"], quote.get("rate"))


def parse_history(body: bytes, limit: int) -> Iterator[Row]:
    """Quotes of eurofxref-hist.csv, plain or zipped, of at most ``limit`` bytes: a line a day, a column a currency.

    Raises SourceError where a line is none, so that no rate is read under another currency.
    """
    lines = records(_unzipped(body, limit))
    header = [name.strip() for name in next(lines, Record(1, [])).cells]
    if header[:1] != ["Date"]:
        raise _malformed("eurofxref-hist.csv", f"the header {','.join(header)[:80]!r}", "Date,USD,JPY,…")
    for line in lines:
        if line.fault or len(line.cells) != len(header):
            received = f"line {line.line} with {line.fault or f'{len(line.cells)} cells'}"
            raise _malformed("eurofxref-hist.csv", received, f"{len(header)} cells, as in the header")
        for ccy, rate in zip(header[1:], line.cells[1:], strict=True):
            if ccy:
                yield from _row("history", line.line, line.cells[0].strip(), ccy, rate)
            elif rate.strip():
                received = f"line {line.line} with {rate.strip()[:20]!r} under no currency"
                raise _malformed("eurofxref-hist.csv", received, "nothing there")


def _row(publication: str, number: int, as_of_date: str, ccy: str, rate: str | None) -> Iterator[Row]:
    text = (rate or "").strip()
    if text and text != "N/A":
        yield {
            POSITION: f"{publication}:{number:06d}:{ccy}",
            "as_of_date": as_of_date,
            "ccy": ccy,
            "ccy_per_eur": text,
            "publication": publication,
        }


def _quote(row: Row) -> tuple[str, str, str]:
    return row["as_of_date"], row["ccy"], row["ccy_per_eur"]


def _window(rows: Iterable[Row], since: datetime | None, newest: Newest) -> Iterator[Row]:
    for row in rows:
        day = _day(row["as_of_date"])
        if day is not None:
            if since is not None and day < since.date():
                continue
            newest.see(datetime.combine(day, time(), UTC))
        yield row


def _day(text: str) -> date | None:
    try:
        return date.fromisoformat(text)
    except ValueError:
        return None


def _get(settings: Settings, url: str) -> bytes:
    def once() -> bytes:
        try:
            with requests.get(url, timeout=_TIMEOUT, stream=True) as response:
                if response.status_code != 200:
                    words = f"{response.reason}, {url}"
                    raise http_failure("ECB", response.status_code, words, response.headers, service="ecb")
                return _bounded(url, response.iter_content(_CHUNK), settings.sources.fx.max_document_bytes)
        except requests.RequestException as error:
            raise ComeBackLater(f"ECB: received no answer from {url} ({type(error).__name__})") from error

    return patiently(once, settings.sources.retry)


def _bounded(name: str, chunks: Iterable[bytes], limit: int) -> bytes:
    body = bytearray()
    for chunk in chunks:
        body += chunk
        if len(body) > limit:
            raise _malformed(
                name, f"more than {limit} bytes", f"at most {limit} (sources.fx.max_document_bytes)"
            )
    return bytes(body)


class _PlainXml(ElementTree.TreeBuilder):
    """Refuses document types: these documents have none, and entities are declared there."""

    def doctype(self, name: str, *_: str | None) -> None:
        raise _malformed(_DAILY, f"a document type ({name})", "XML without one")


def _unzipped(body: bytes, limit: int) -> str:
    name = "eurofxref-hist.csv"
    try:
        if body.startswith(_ZIP):
            with zipfile.ZipFile(io.BytesIO(body)) as archive:
                member = next(
                    (item for item in archive.infolist() if item.filename.lower().endswith(".csv")), None
                )
                if member is None:
                    raise _malformed("eurofxref-hist.zip", "a ZIP without a CSV", "eurofxref-hist.csv")
                with archive.open(member) as packed:
                    # What a ZIP says of its members' sizes is its maker's word: the bytes are counted.
                    body = _bounded(member.filename, iter(lambda: packed.read(_CHUNK), b""), limit)
        return body.decode("utf-8-sig")
    except (
        zipfile.BadZipFile,
        zlib.error,
        EOFError,
        NotImplementedError,
        RuntimeError,
        UnicodeError,
    ) as error:
        raise _malformed(name, f"bytes that cannot be read ({error})", "a ZIP or CSV") from None


def _malformed(name: str, received: str, expected: str) -> SourceError:
    return SourceError(
        f"ECB {name}: received {received}, expected {expected}",
        hint="open the address of the setting sources.fx in a browser: the ECB may have changed the form",
    )
