"""HubSpot contacts (CRM v3) to landing files.

The search API returns at most 10,000 results a query, sorts by one property and shifts its pages when a
contact changes meanwhile. So no page follows another by ``after``: each begins at the modification time where
the last one ended, and an instant shared by more contacts than fit a page is read by id.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar

from hubspot import HubSpot
from urllib3 import Retry
from urllib3.exceptions import HTTPError

from lakehouse.errors import SourceError
from lakehouse.landing import LandingWriter, Manifest, read_manifest
from lakehouse.runs import run_time
from lakehouse.settings import Settings
from lakehouse.sources.fields import source_fields
from lakehouse.sources.retry import ComeBackLater, http_failure, patiently
from lakehouse.sources.secrets import read_secret
from lakehouse.sources.watermark import Newest, Watermark, parse_time, window_end

SOURCE, TABLE = "hubspot", "hubspot_contacts"
# Fields of a landed row that are no properties in HubSpot.
_ROW_FIELDS = {"id", "archived", "merged_into"}
_MERGED_IDS = "hs_merged_object_ids"
_TIMEOUT = (10.0, 60.0)
_LIST_PAGE_SIZE = 100
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MILLISECOND = timedelta(milliseconds=1)

T = TypeVar("T")
Row = dict[str, Any]


def extract(settings: Settings, run_id: str, watermarks: Mapping[str, Watermark]) -> tuple[Manifest, ...]:
    """Land contacts changed since the watermark, less an overlap for the search index's lag.

    Raises CredentialsError, SourceUnavailable, SourceError.
    """
    landed = read_manifest(settings, SOURCE, TABLE, run_id)
    if landed is not None:
        return (landed,)
    watermark = watermarks.get(TABLE, Watermark())
    since = watermark.since(timedelta(minutes=settings.sources.hubspot.overlap_minutes))
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
        """Contacts modified at or after ``since``, oldest first; merged ids after their survivor."""
        for contact in self._modified(_milliseconds(since or _EPOCH)):
            row = _row(contact, self._properties)
            yield row
            yield from _merged(contact, row)

    def archived(self, since: datetime | None) -> Iterator[Row]:
        """Contacts archived at or after ``since``. The list has no filter, the search has no archived ones."""
        after: str | None = None
        while True:
            page = self._call(
                lambda after=after: self._basic_api.get_page(  # type: ignore[misc]
                    limit=min(self._settings.page_size, _LIST_PAGE_SIZE),
                    archived=True,
                    properties=[*self._properties, _MERGED_IDS],
                    _request_timeout=_TIMEOUT,
                    **({"after": after} if after else {}),
                )
            )
            for contact in page.results:
                row = _row(contact, self._properties)
                when = parse_time(row["lastmodifieddate"])
                if since is None or when is None or when >= since:
                    yield row
                    yield from _merged(contact, row)
            if page.paging is None or page.paging.next is None:
                return
            after = page.paging.next.after

    def _modified(self, start: int) -> Iterator[Any]:
        """Follow modification times, in milliseconds; ``given`` counts what was already given for ``start``."""
        given: Counter[str] = Counter()
        while True:
            page = self._search([_filter("lastmodifieddate", "GTE", start)], "lastmodifieddate")
            times = [_modified_at(contact) for contact in page]
            if times != sorted(times):
                raise SourceError(
                    "HubSpot: received contacts out of order, expected them by lastmodifieddate"
                )
            now = [contact for contact, time in zip(page, times, strict=True) if time == start]
            yield from _without(now, given)
            yield from page[len(now) :]
            if len(page) < self._settings.page_size:
                return
            if times[-1] > start:
                start = times[-1]
                given = Counter(
                    contact.id for contact, time in zip(page, times, strict=True) if time == start
                )
            else:
                # A page full of one instant: what is left of it can only be told apart by id.
                given.update(contact.id for contact in page)
                yield from self._of_one_instant(start, given)
                start, given = start + 1, Counter()

    def _of_one_instant(self, time: int, given: Counter[str]) -> Iterator[Any]:
        """Contacts modified within one millisecond, by id, less those given."""
        given = given.copy()
        filters = [_filter("lastmodifieddate", "GTE", time), _filter("lastmodifieddate", "LT", time + 1)]
        page = self._search(filters, "hs_object_id")
        yield from _without(page, given)
        while len(page) == self._settings.page_size and page[0].id != page[-1].id:
            last = page[-1].id
            repeated = Counter({last: sum(contact.id == last for contact in page)})
            page = self._search([*filters, _filter("hs_object_id", "GTE", last)], "hs_object_id")
            yield from _without(_without(page, repeated), given)

    def _search(self, filters: list[dict[str, str]], sort_by: str) -> list[Any]:
        request = {
            "filterGroups": [{"filters": filters}],
            "sorts": [{"propertyName": sort_by, "direction": "ASCENDING"}],
            "properties": [*self._properties, _MERGED_IDS],
            "limit": self._settings.page_size,
        }
        answer = self._call(lambda: self._search_api.do_search(request, _request_timeout=_TIMEOUT))
        return list(answer.results)

    def _call(self, call: Callable[[], T]) -> T:
        def once() -> T:
            try:
                return call()
            except HTTPError as error:
                raise ComeBackLater(f"HubSpot: received no answer ({type(error).__name__})") from error
            except Exception as error:  # each of the client's API packages has an ApiException of its own
                status = getattr(error, "status", None)
                if status is None:
                    raise
                detail = f"{getattr(error, 'reason', '')} {getattr(error, 'body', None) or ''}"
                raise http_failure(
                    "HubSpot",
                    int(status),
                    detail,
                    dict(getattr(error, "headers", None) or {}),
                    credentials_hint=f"renew the token in the secret {self._settings.secret}; scopes "
                    "crm.objects.contacts.read and crm.schemas.contacts.read",
                ) from None

        return patiently(once, self._patience)


def _row(contact: Any, properties: tuple[str, ...]) -> Row:
    """A contact as landed. Archiving leaves lastmodifieddate as it was: the newer of the two times counts."""
    row: Row = {"id": contact.id}
    row |= {name: contact.properties[name] for name in properties if name in contact.properties}
    row |= {"archived": bool(contact.archived), "merged_into": None}
    modified = parse_time(row.get("lastmodifieddate"))
    if row["archived"] and contact.archived_at and modified and contact.archived_at > modified:
        archived_at = contact.archived_at.astimezone(UTC).replace(tzinfo=None)
        row["lastmodifieddate"] = archived_at.isoformat(timespec="milliseconds") + "Z"
    return row


def _without(contacts: Iterable[Any], given: Counter[str]) -> Iterator[Any]:
    """Contacts less those given, each as often as it was given; a file behind a double can hold an id twice."""
    for contact in contacts:
        if given[contact.id]:
            given[contact.id] -= 1
        else:
            yield contact


def _merged(contact: Any, survivor: Row) -> Iterator[Row]:
    """A row for each contact that was merged into this one: gone by the survivor's last change."""
    for merged_id in (contact.properties.get(_MERGED_IDS) or "").split(";"):
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


def _modified_at(contact: Any) -> int:
    """Where the search has put the contact: its lastmodifieddate, or updatedAt where that cannot be read."""
    return _milliseconds(parse_time(contact.properties.get("lastmodifieddate")) or contact.updated_at)
