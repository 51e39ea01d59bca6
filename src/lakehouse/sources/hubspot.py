"""HubSpot contacts (CRM v3) to landing files.

The search API is an index beside the data: it selects and orders contacts as it knew them a while ago, shows some of
them as they are now, gives at most 10,000 results a query and shifts its pages when a contact changes meanwhile. Of
all that it says only the id holds, so pages follow each other by id. A change that it learns of late is read by the
next window's overlap; one that it learns of later still is named by ``reconcile --ids``, and read by ``backfill``:
both take the list, which is the data itself.
(https://developers.hubspot.com/docs/api-reference/search/guide, "Limitations")
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from hubspot import HubSpot
from hubspot.crm.contacts import ApiException
from urllib3 import Retry
from urllib3.exceptions import HTTPError

from lakehouse.landing import LandingWriter, Manifest, read_manifest
from lakehouse.published import ComeBackLater
from lakehouse.runs import run_time
from lakehouse.secrets import read_secret
from lakehouse.settings import Settings
from lakehouse.sources.fields import source_fields
from lakehouse.sources.retry import http_failure, patiently
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
Filter = dict[str, str]


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
    read_at = datetime.now(UTC)

    newest = Newest()
    writer = LandingWriter(settings, SOURCE, TABLE, run_id)
    rows = writer.write_rows(_watched(contacts.modified(since), newest))
    rows += writer.write_rows(_watched(contacts.listed(since, archived=True), newest))
    manifest = writer.commit(
        window_from=since,
        window_to=window_end(newest.time, watermark, min(run_time(run_id), read_at)),
        # HubSpot leaves a property that it does not have out of every contact, and nulls one that is not set.
        fields=() if rows else source_fields(TABLE),
    )
    return (manifest,)


def backfill(settings: Settings, run_id: str, since: datetime, until: datetime) -> tuple[Manifest, ...]:
    """Land contacts last changed, or archived, in [since, until). Raises as ``extract`` does.

    The list has no filter, so each chunk of a backfill reads every contact: few large chunks cost less.
    """
    landed = read_manifest(settings, SOURCE, TABLE, run_id)
    if landed is not None:
        return (landed,)
    contacts = _Contacts(settings)
    writer = LandingWriter(settings, SOURCE, TABLE, run_id, kind="backfill")
    rows = sum(
        writer.write_rows(contacts.listed(since, until, archived=archived)) for archived in (False, True)
    )
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
        for contact in contacts.every(archived=archived, properties=["lastmodifieddate"])
    )
    return [(row["id"], row["archived"], parse_time(row["lastmodifieddate"])) for row in rows]


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

    def modified(self, since: datetime | None) -> Iterator[Row]:
        """Contacts that the index has as modified at or after ``since``, by id; merged ids after their survivor.

        There is no upper bound: a contact that changes while pages are read would leave the window.
        """
        for contact in self._found([] if since is None else [_modified_since(since)]):
            row = _row(contact, self._properties)
            yield row
            yield from _merged(contact, row)

    def listed(
        self, since: datetime | None, until: datetime | None = None, *, archived: bool
    ) -> Iterator[Row]:
        """Contacts modified, or archived, in [since, until), and those whose time cannot be read."""
        for contact in self.every(archived=archived, properties=[*self._properties, _MERGED_IDS]):
            row = _row(contact, self._properties)
            when = parse_time(row.get("lastmodifieddate"))
            if when is None or ((since is None or when >= since) and (until is None or when < until)):
                yield row
                yield from _merged(contact, row)

    def every(self, *, archived: bool, properties: list[str]) -> Iterator[Contact]:
        """All contacts, by id: the list knows no bound on results, and no lag."""
        options: dict[str, Any] = {
            "limit": min(self._settings.page_size, _LIST_PAGE_SIZE),
            "archived": archived,
            "properties": properties,
        }
        while True:
            page = self._call(self._basic_api.get_page, **options)
            yield from page["results"]
            following = _following(page)
            if following is None:
                return
            options["after"] = following

    def _found(self, window: list[Filter]) -> Iterator[Contact]:
        """All that the index has in a window, page after page by id.

        A page may come out of order, name a contact again, or be short where the index names contacts that are gone:
        all of it passes, and only ``paging`` says whether more follow. Each page begins with the last id of the one
        before, which a file behind a double can hold more than once.
        """
        filters, after, asked = window, None, set[tuple[str, str]]()
        while True:
            page = self._search(filters, after)
            contacts, after = page["results"], _following(page)
            if after is None:
                yield from contacts
                return
            ids = [contact["id"] for contact in contacts]
            if len(ids) > 1 and len(set(ids)) == 1:
                # A page full of one id: the rest of it can only be told apart by place.
                yield from contacts
                continue
            following = ("GT" if len(ids) == 1 else "GTE", ids[-1] if ids else "")
            if not ids or following in asked:
                raise ComeBackLater(
                    f"HubSpot: received a page that ends with {ids[-1:] or 'no contact'} and another one after it, "
                    "expected ids further on",
                    hint="the search index is behind the data: run the task again later; nothing was landed",
                )
            asked.add(following)
            yield from (contact for contact in contacts if contact["id"] != ids[-1] or len(ids) == 1)
            filters, after = [*window, _filter("hs_object_id", *following)], None

    def _search(self, filters: list[Filter], after: str | None) -> dict[str, Any]:
        request: dict[str, Any] = {
            "filterGroups": [{"filters": filters}] if filters else [],
            "sorts": [{"propertyName": "hs_object_id", "direction": "ASCENDING"}],
            "properties": [*self._properties, _MERGED_IDS],
            "limit": self._settings.page_size,
        }
        if after is not None:
            request["after"] = after
        return self._call(self._search_api.do_search, request)

    def _call(self, method: Callable[..., Any], *args: Any, **options: Any) -> dict[str, Any]:
        """The JSON that a method of the client brings, undigested: values land as they came."""

        def once() -> dict[str, Any]:
            try:
                answer = method(*args, **options, _preload_content=False, _request_timeout=_TIMEOUT)
                body: dict[str, Any] = json.loads(answer.data)
            except (HTTPError, ValueError) as error:
                raise ComeBackLater(f"HubSpot: received no whole answer ({type(error).__name__})") from error
            except ApiException as error:
                raise http_failure(
                    "HubSpot",
                    error.status,
                    f"{error.reason} {error.body or ''}",
                    error.headers,
                    service="hubspot",
                    codes=(f"{error.status} {_policy(error.body)}",),
                    secret=self._settings.secret,
                ) from None
            if not isinstance(body, dict) or not isinstance(body.get("results"), list):
                raise ComeBackLater("HubSpot: received an answer without results, expected a page")
            return body

        return patiently(once, self._patience)


def _policy(body: object) -> str:
    """Which limit a 429 is about, e.g. DAILY; nothing for any other answer."""
    try:
        return str(json.loads(str(body))["policyName"])
    except (ValueError, KeyError, TypeError):
        return ""


def _row(contact: Contact, properties: tuple[str, ...]) -> Row:
    """A contact as landed. Archiving leaves lastmodifieddate as it was: the newer of the two times counts."""
    row: Row = {"id": contact["id"]}
    row |= {name: contact["properties"][name] for name in properties if name in contact["properties"]}
    row |= {"archived": contact.get("archived", False), "merged_into": None}
    modified, archived = parse_time(row.get("lastmodifieddate")), parse_time(contact.get("archivedAt"))
    if row["archived"] and modified and archived and archived > modified:
        row["lastmodifieddate"] = contact["archivedAt"]
    return row


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


def _following(page: dict[str, Any]) -> str | None:
    """Where the next page begins; None after the last one."""
    following: dict[str, str] = page.get("paging", {}).get("next") or {}
    return following.get("after")


def _modified_since(time: datetime) -> Filter:
    return _filter("lastmodifieddate", "GTE", str((time - _EPOCH) // _MILLISECOND))


def _filter(name: str, operator: str, value: str) -> Filter:
    return {"propertyName": name, "operator": operator, "value": value}
