"""HubSpot contacts (CRM v3) to landing files.

The search API returns at most 10,000 results a query, sorts by one property and shifts its pages when a
contact changes meanwhile. So no page follows another by ``after``: each begins at the modification time where
the last one ended, and an instant shared by more contacts than fit a page is read by id.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from hubspot import HubSpot
from hubspot.crm.contacts import ApiException
from urllib3 import Retry
from urllib3.exceptions import HTTPError

from lakehouse.errors import SourceError
from lakehouse.landing import LandingWriter, Manifest, read_manifest
from lakehouse.runs import run_time
from lakehouse.secrets import read_secret
from lakehouse.settings import Settings
from lakehouse.sources.fields import source_fields
from lakehouse.sources.retry import ComeBackLater, http_failure, patiently
from lakehouse.sources.watermark import Newest, Watermark, backfilled, overlap, parse_time, window_end

SOURCE, TABLE = "hubspot", "hubspot_contacts"
# Fields of a landed row that are no properties in HubSpot.
_ROW_FIELDS = {"id", "archived", "merged_into"}
_MERGED_IDS = "hs_merged_object_ids"
_TIMEOUT = (10.0, 60.0)
_LIST_PAGE_SIZE = 100
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MILLISECOND = timedelta(milliseconds=1)

Row = dict[str, Any]
Contact = dict[str, Any]


def extract(settings: Settings, run_id: str, watermarks: Mapping[str, Watermark]) -> tuple[Manifest, ...]:
    """Land contacts changed since the watermark, less an overlap for the search index's lag.

    Raises CredentialsError, SourceUnavailable, SourceError.
    """
    landed = read_manifest(settings, SOURCE, TABLE, run_id)
    if landed is not None:
        return (landed,)
    watermark = watermarks.get(TABLE, Watermark())
    since = watermark.since(overlap(settings, SOURCE))
    contacts = _Contacts(settings)

    newest = Newest()
    writer = LandingWriter(settings, SOURCE, TABLE, run_id)
    rows = writer.write_rows(_watched(contacts.modified(since), newest))
    rows += writer.write_rows(_watched(contacts.archived(since), newest))
    manifest = writer.commit(
        window_from=since,
        window_to=window_end(newest.time, watermark, run_time(run_id)),
        # HubSpot leaves a property that it does not have out of every contact, and nulls one that is not set.
        fields=() if rows else source_fields(TABLE),
    )
    return (manifest,)


def backfill(settings: Settings, run_id: str, since: datetime, until: datetime) -> tuple[Manifest, ...]:
    """Land contacts last changed, or archived, in [since, until). Raises as ``extract`` does."""
    landed = read_manifest(settings, SOURCE, TABLE, run_id)
    if landed is not None:
        return (landed,)
    contacts = _Contacts(settings)
    writer = LandingWriter(settings, SOURCE, TABLE, run_id, kind="backfill")
    rows = writer.write_rows(_before(contacts.modified(since, until), until))
    rows += writer.write_rows(_before(contacts.archived(since), until))
    fields = () if rows else source_fields(TABLE)
    return (
        writer.commit(window_from=since, window_to=None, fields=fields, notes=[backfilled(since, until)]),
    )


def known_ids(settings: Settings, table: str) -> list[tuple[str, bool, datetime | None]]:
    """Contacts that HubSpot still knows: id, whether it is archived, when it last changed. Raises as ``extract``."""
    contacts = _Contacts(settings)
    rows = (
        _row(contact, ("lastmodifieddate",))
        for archived in (False, True)
        for contact in contacts.listed(archived=archived, properties=["lastmodifieddate"])
    )
    return [(row["id"], row["archived"], parse_time(row["lastmodifieddate"])) for row in rows]


def _before(rows: Iterator[Row], until: datetime) -> Iterator[Row]:
    for row in rows:
        when = parse_time(row.get("lastmodifieddate"))
        if when is None or when < until:
            yield row


def _watched(rows: Iterator[Row], newest: Newest) -> Iterator[Row]:
    for row in rows:
        newest.see(parse_time(row.get("lastmodifieddate")))
        yield row


class _Contacts:
    """Contacts as landing rows, read by the official client."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings.sources.hubspot
        self._patience = settings.sources.retry
        token = read_secret(self._settings.secret, ["token"])["token"]
        # The client would repeat calls by itself, without a bound: all patience is in patiently().
        options: dict[str, Any] = {"access_token": token, "retry": Retry(total=0, redirect=False)}
        if self._settings.endpoint:
            options["host"] = self._settings.endpoint
        crm = HubSpot(**options).crm
        self._search_api = crm.contacts.search_api
        self._basic_api = crm.contacts.basic_api
        self._properties = tuple(name for name in source_fields(TABLE) if name not in _ROW_FIELDS)

    def modified(self, since: datetime | None, until: datetime | None = None) -> Iterator[Row]:
        """Contacts modified at or after ``since``, oldest first; merged ids after their survivor.

        Contacts modified at or after ``until`` may be among the last of them.
        """
        end = None if until is None else _milliseconds(until)
        for contact in self._modified(None if since is None else _milliseconds(since), end):
            row = _row(contact, self._properties)
            yield row
            yield from _merged(contact, row)

    def archived(self, since: datetime | None) -> Iterator[Row]:
        """Contacts archived at or after ``since``. The list has no filter, the search has no archived ones."""
        for contact in self.listed(archived=True, properties=[*self._properties, _MERGED_IDS]):
            row = _row(contact, self._properties)
            when = parse_time(row["lastmodifieddate"])
            if since is None or when is None or when >= since:
                yield row
                yield from _merged(contact, row)

    def listed(self, *, archived: bool, properties: list[str]) -> Iterator[Contact]:
        """All contacts, by id: the list knows no bound on results."""
        options: dict[str, Any] = {
            "limit": min(self._settings.page_size, _LIST_PAGE_SIZE),
            "archived": archived,
            "properties": properties,
        }
        while True:
            page = self._call(self._basic_api.get_page, **options)
            yield from page["results"]
            following = page.get("paging", {}).get("next")
            if not following:
                return
            options["after"] = following["after"]

    def _modified(self, start: int | None, end: int | None) -> Iterator[Contact]:
        """Follow modification times, in milliseconds; ``given`` counts what was already given for ``start``."""
        given: Counter[str] = Counter()
        while True:
            filters = [] if start is None else [_filter("lastmodifieddate", "GTE", start)]
            page = self._search(filters, "lastmodifieddate")
            times = [_modified_at(contact) for contact in page]
            if times != sorted(times):
                raise SourceError(
                    "HubSpot: received contacts out of order, expected them by lastmodifieddate"
                )
            now = [contact for contact, time in zip(page, times, strict=True) if time == start]
            yield from _without(now, given)
            yield from page[len(now) :]
            if len(page) < self._settings.page_size or (end is not None and times[-1] >= end):
                return
            if start is None or times[-1] > start:
                start = times[-1]
                given = Counter(
                    contact["id"] for contact, time in zip(page, times, strict=True) if time == start
                )
            else:
                # A page full of one instant: what is left of it can only be told apart by id.
                given.update(contact["id"] for contact in page)
                yield from self._of_one_instant(start, given)
                start, given = start + 1, Counter()

    def _of_one_instant(self, time: int, given: Counter[str]) -> Iterator[Contact]:
        """Contacts modified within one millisecond, by id, less those given."""
        given = given.copy()
        filters = [_filter("lastmodifieddate", "GTE", time), _filter("lastmodifieddate", "LT", time + 1)]
        page = self._search(filters, "hs_object_id")
        yield from _without(page, given)
        while len(page) == self._settings.page_size and page[0]["id"] != page[-1]["id"]:
            last = page[-1]["id"]
            repeated = Counter({last: sum(contact["id"] == last for contact in page)})
            page = self._search([*filters, _filter("hs_object_id", "GTE", last)], "hs_object_id")
            yield from _without(_without(page, repeated), given)

    def _search(self, filters: list[dict[str, str]], sort_by: str) -> list[Contact]:
        request = {
            "filterGroups": [{"filters": filters}] if filters else [],
            "sorts": [{"propertyName": sort_by, "direction": "ASCENDING"}],
            "properties": [*self._properties, _MERGED_IDS],
            "limit": self._settings.page_size,
        }
        results: list[Contact] = self._call(self._search_api.do_search, request)["results"]
        return results

    def _call(self, method: Callable[..., Any], *args: Any, **options: Any) -> dict[str, Any]:
        """The JSON that a method of the client brings, undigested: values land as they came."""

        def once() -> dict[str, Any]:
            try:
                answer = method(*args, **options, _preload_content=False, _request_timeout=_TIMEOUT)
                body: dict[str, Any] = json.loads(answer.data)
            except (HTTPError, json.JSONDecodeError) as error:
                raise ComeBackLater(f"HubSpot: received no whole answer ({type(error).__name__})") from error
            except ApiException as error:
                raise http_failure(
                    "HubSpot",
                    error.status,
                    f"{error.reason} {error.body or ''}",
                    error.headers,
                    credentials_hint=f"renew the token in the secret {self._settings.secret}; its scope is "
                    "crm.objects.contacts.read",
                ) from None
            return body

        return patiently(once, self._patience)


def _row(contact: Contact, properties: tuple[str, ...]) -> Row:
    """A contact as landed. Archiving leaves lastmodifieddate as it was: the newer of the two times counts."""
    row: Row = {"id": contact["id"]}
    row |= {name: contact["properties"][name] for name in properties if name in contact["properties"]}
    row |= {"archived": contact.get("archived", False), "merged_into": None}
    modified, archived = parse_time(row.get("lastmodifieddate")), parse_time(contact.get("archivedAt"))
    if row["archived"] and modified and archived and archived > modified:
        row["lastmodifieddate"] = contact["archivedAt"]
    return row


def _without(contacts: Iterable[Contact], given: Counter[str]) -> Iterator[Contact]:
    """Contacts less those given, each as often as it was given; a file behind a double can hold an id twice."""
    for contact in contacts:
        if given[contact["id"]]:
            given[contact["id"]] -= 1
        else:
            yield contact


def _merged(contact: Contact, survivor: Row) -> Iterator[Row]:
    """A row for each contact that was merged into this one: gone by the survivor's last change."""
    for merged_id in (contact["properties"].get(_MERGED_IDS) or "").split(";"):
        if merged_id.strip():
            yield {
                "id": merged_id.strip(),
                "createdate": None,
                "lastmodifieddate": survivor.get("lastmodifieddate"),
                "archived": True,
                "merged_into": survivor["id"],
            }


def _filter(name: str, operator: str, value: int | str) -> dict[str, str]:
    return {"propertyName": name, "operator": operator, "value": str(value)}


def _milliseconds(time: datetime) -> int:
    return (time - _EPOCH) // _MILLISECOND


def _modified_at(contact: Contact) -> int:
    """Where the search has put the contact: its lastmodifieddate, or updatedAt where that cannot be read."""
    time = parse_time(contact["properties"].get("lastmodifieddate")) or parse_time(contact["updatedAt"])
    if time is None:
        raise SourceError(
            f"HubSpot: contact {contact['id']} has no updatedAt that can be read, expected a timestamp"
        )
    return _milliseconds(time)
