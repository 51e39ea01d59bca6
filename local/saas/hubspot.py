"""HubSpot's CRM v3 contacts: search, list, read, batch read, with the limits that shape a client.

Search: one sort, at most 200 a page, 10,000 results a query (HTTP 400 beyond), never archived contacts. It is an
index beside the data, which learns of changes late (``hold_index``, ``catch_up``): filters, order and total are the
index's, values are shown as they are now, and what is gone by now is left out of a page.
Merges: since January 2025 HubSpot merges two contacts into a new one; reading an old id gives the new contact,
whose hs_merged_object_ids names the old ones. Merged contacts appear in no list and no search.
"""

from __future__ import annotations

import re
import uuid
from bisect import bisect_left, bisect_right
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from local.saas import times
from local.saas.store import Fields, Record, Store
from local.saas.web import Answer, Fault, Request, Service

CONTACTS = "hubspot.contacts"
ARCHIVED, ARCHIVED_AT, MERGED_INTO = "archived", "archived_at", "merged_into"
SEARCH_LIMIT, SEARCH_WINDOW, LIST_LIMIT, BATCH_LIMIT = 200, 10_000, 100, 100
MAX_GROUPS, MAX_FILTERS_IN_GROUP, MAX_FILTERS = 5, 6, 18
DATES = frozenset({"createdate", "lastmodifieddate", "hs_lastmodifieddate", "closedate"})
ALWAYS = ("hs_object_id", "createdate", "lastmodifieddate")
DEFAULT = ("createdate", "email", "firstname", "hs_object_id", "lastmodifieddate", "lastname")
ROOT = "/crm/v3/objects/contacts"

# What HubSpot says with a status: message and category.
FAILURES = {
    401: ("The OAuth token used to make this call expired 1 day(s) ago.", "EXPIRED_AUTHENTICATION"),
    403: ("This app hasn't been granted all required scopes to make this call.", "MISSING_SCOPES"),
    404: ("resource not found", "OBJECT_NOT_FOUND"),
    423: ("The resource is locked.", "LOCKED"),
    477: ("This account is being migrated between data hosting locations.", "MIGRATION_IN_PROGRESS"),
}

OrderKey = tuple[int, int, str]


def is_number(text: str) -> bool:
    """Digits of ASCII alone: others are none to int(), or none that HubSpot would give."""
    return text.isascii() and text.isdigit()


def id_key(text: str) -> OrderKey:
    """Numbers by value, then everything else by text: ids of one's own files need not be numbers, nor short."""
    digits = text.lstrip("0")
    return (0, len(digits), f"{digits} {text}") if is_number(text) else (1, 0, text)


def is_true(value: object) -> bool:
    return str(value).strip().lower() in ("true", "1", "yes", "t")


def rows_of_load(rows: list[Fields]) -> list[tuple[str, int, Fields]]:
    """Rows of a file as the store wants them.

    HubSpot stamps the modification time itself; a file can hold something that is no time. Such a contact is
    indexed at the newest time of the load, so that a search by time still finds it, its property unchanged.
    """
    parsed = [times.parse_ms(row.get("lastmodifieddate")) for row in rows]
    newest = max((ms for ms in parsed if ms is not None), default=0)
    return [
        (str(row.get("id") or ""), newest if ms is None else ms, row)
        for row, ms in zip(rows, parsed, strict=True)
    ]


@dataclass(frozen=True)
class _Index:
    """The contacts of one version of the store, as lists and searches see them."""

    version: int
    live: list[Record]
    archived: list[Record]
    survivor: dict[str, str]
    merged_ids: dict[str, list[str]]


class HubSpotError(Exception):
    def __init__(self, status: int, message: str, category: str, **more: Any) -> None:
        super().__init__(message)
        self.answer = error(status, message, category, **more)


def error(status: int, message: str, category: str, **more: Any) -> Answer:
    body = {"status": "error", "message": message, "correlationId": str(uuid.uuid4()), "category": category}
    return Answer.of(body | more, status)


class HubSpot(Service):
    name = "hubspot"

    def __init__(self, store: Store, token: Callable[[], str]) -> None:
        self._store = store
        self._token = token
        self._index: _Index | None = None
        self._held: _Index | None = None
        self._found: tuple[_Index, tuple[str, str], list[Record]] | None = None
        self._orders: dict[str, tuple[_Index, list[OrderKey], list[Record]]] = {}

    def hold_index(self) -> None:
        """From now on the search knows of no change."""
        self._held = self._indexed()

    def catch_up(self) -> None:
        """The search knows of every change again, and of each one that is made from now on."""
        self._held = None

    # Behaviour -------------------------------------------------------------------------------------------------

    def answer(self, request: Request) -> Answer:
        try:
            self._authenticate(request)
            path = request.path.rstrip("/")
            if request.method == "POST" and path == f"{ROOT}/search":
                return self._search(request.json())
            if request.method == "POST" and path == f"{ROOT}/batch/read":
                return self._batch_read(request.json(), archived=is_true(request.one("archived", "false")))
            if request.method == "GET" and path == ROOT:
                return self._list(request)
            if request.method == "GET" and (match := re.fullmatch(rf"{ROOT}/([^/]+)", path)):
                return self._read(match[1], request)
            return error(404, f"no such path: {request.method} {request.path}", "OBJECT_NOT_FOUND")
        except HubSpotError as refused:
            return refused.answer

    def failure(self, fault: Fault) -> Answer:
        status = fault.status
        headers = {} if fault.retry_after is None else {"Retry-After": fault.retry_after}
        if status == 429:
            policy = fault.policy or "TEN_SECONDLY_ROLLING"
            body = {
                "status": "error",
                "message": f"You have reached your {policy.lower()} limit.",
                "errorType": "RATE_LIMIT",
                "correlationId": str(uuid.uuid4()),
                "policyName": policy,
                "groupName": "publicapi:private-app-api-calls-ten-secondly",
            }
            return Answer.of(body, 429, **headers)
        message, category = FAILURES.get(status, ("internal error", "INTERNAL_ERROR"))
        answer = error(status, message, fault.code or category)
        return Answer(status, answer.body, answer.content_type, headers)

    def _authenticate(self, request: Request) -> None:
        if request.headers.get("authorization", "") != f"Bearer {self._token()}":
            raise HubSpotError(
                401,
                "Authentication credentials not found. This API supports OAuth 2.0 authentication and you can find "
                "more details at https://developers.hubspot.com/docs/methods/auth/oauth-overview",
                "INVALID_AUTHENTICATION",
            )

    def _search(self, body: dict[str, Any]) -> Answer:
        limit = int(body.get("limit") or 10)
        if not 0 < limit <= SEARCH_LIMIT:
            raise _invalid(f"limit must be between 1 and {SEARCH_LIMIT}, received {limit}")
        after_text = str(body.get("after") or "0")
        if not is_number(after_text):
            raise _invalid(f"after must be the value of paging.next.after, received {after_text!r}")
        after = int(after_text)
        if after + limit > SEARCH_WINDOW:
            raise _invalid(
                f"The maximum number of results of one search is {SEARCH_WINDOW}: after {after} plus limit {limit} "
                "goes beyond it. Narrow the filters and search again."
            )
        groups, sorts = body.get("filterGroups") or [], body.get("sorts") or []
        _check_filters(groups)
        if len(sorts) > 1:
            raise _invalid(f"only one sorting rule can be applied to a search, received {len(sorts)}")
        records = self._matching(groups, sorts)
        page = [now for record in records[after : after + limit] if (now := self._now(record)) is not None]
        wanted = body.get("properties") or DEFAULT
        result: dict[str, Any] = {
            "total": len(records),
            "results": [self._shown(record, wanted, search=True) for record in page],
        }
        if after + limit < len(records):
            result["paging"] = {"next": {"after": str(after + limit)}}
        return Answer.of(result)

    def _list(self, request: Request) -> Answer:
        limit = int(request.one("limit", "10"))
        if not 0 < limit <= LIST_LIMIT:
            raise _invalid(f"limit must be between 1 and {LIST_LIMIT}, received {limit}")
        index = self._indexed()
        records = index.archived if is_true(request.one("archived", "false")) else index.live
        start = 0
        if token := request.one("after"):
            identifier, _, seq = token.rpartition(".")
            if not is_number(seq):
                raise _invalid(f"after must be the value of paging.next.after, received {token!r}")
            last = (id_key(identifier), int(seq))
            start = bisect_right(records, last, key=lambda r: (id_key(r.id), r.seq))
        page = records[start : start + limit]
        result: dict[str, Any] = {"results": [self._shown(record, _properties(request)) for record in page]}
        if start + limit < len(records):
            token = f"{page[-1].id}.{page[-1].seq}"
            link = f"http://127.0.0.1:{request.port}{ROOT}?after={token}"
            result["paging"] = {"next": {"after": token, "link": link}}
        return Answer.of(result)

    def _read(self, identifier: str, request: Request) -> Answer:
        record = self._find(identifier, archived=is_true(request.one("archived", "false")))
        if record is None:
            return error(404, "resource not found", "OBJECT_NOT_FOUND", context={"id": [identifier]})
        return Answer.of(self._shown(record, _properties(request)))

    def _batch_read(self, body: dict[str, Any], *, archived: bool) -> Answer:
        identifiers = [str(entry["id"]) for entry in body.get("inputs") or []]
        if not 0 < len(identifiers) <= BATCH_LIMIT:
            raise _invalid(f"a batch reads 1 to {BATCH_LIMIT} contacts, received {len(identifiers)}")
        found = {identifier: self._find(identifier, archived=archived) for identifier in identifiers}
        missing = [identifier for identifier, record in found.items() if record is None]
        wanted = body.get("properties") or DEFAULT
        moment = times.hubspot(times.now())
        shown = {record.seq: self._shown(record, wanted) for record in found.values() if record is not None}
        result: dict[str, Any] = {
            "status": "COMPLETE",
            "results": list(shown.values()),
            "startedAt": moment,
            "completedAt": moment,
        }
        if missing:
            result["numErrors"] = 1
            result["errors"] = [
                {
                    "status": "error",
                    "category": "OBJECT_NOT_FOUND",
                    "message": "Could not get some CONTACT objects, they may be deleted or not exist.",
                    "context": {"ids": missing},
                }
            ]
        return Answer.of(result, 207 if missing else 200)

    # Records ---------------------------------------------------------------------------------------------------

    def _indexed(self) -> _Index:
        index = self._index
        if index is not None and index.version == self._store.version:
            return index
        version = self._store.version
        records = self._store.records(CONTACTS)
        known = {record.id for record in records}
        direct = {r.id: str(r.fields[MERGED_INTO]) for r in records if r.fields.get(MERGED_INTO)}
        survivor = {
            old: end for old in direct if (end := _last_survivor(old, direct)) in known and end != old
        }
        merged_ids: dict[str, list[str]] = {}
        for old, end in survivor.items():
            merged_ids.setdefault(end, []).append(old)
        rest = sorted((r for r in records if r.id not in survivor), key=lambda r: (id_key(r.id), r.seq))
        self._index = _Index(
            version=version,
            live=[r for r in rest if not is_true(r.fields.get(ARCHIVED))],
            archived=[r for r in rest if is_true(r.fields.get(ARCHIVED))],
            survivor=survivor,
            merged_ids=merged_ids,
        )
        return self._index

    def _now(self, record: Record) -> Record | None:
        """What a record of the index is by now; None where it was archived, merged or purged meanwhile."""
        if self._held is None:
            return record
        rows = self._store.with_id(CONTACTS, record.id)
        is_gone = record.id in self._indexed().survivor or not rows or is_true(rows[-1].fields.get(ARCHIVED))
        return None if is_gone else record if record in rows else rows[-1]

    def _find(self, identifier: str, *, archived: bool) -> Record | None:
        identifier = self._indexed().survivor.get(identifier, identifier)
        rows = self._store.with_id(CONTACTS, identifier)
        rows = [row for row in rows if is_true(row.fields.get(ARCHIVED)) == archived]
        return rows[-1] if rows else None

    def _value(self, record: Record, name: str) -> Any:
        """A property as HubSpot returns it: text, or null where it is not set."""
        if name == "hs_object_id":
            return record.id
        if name == "hs_merged_object_ids":
            return ";".join(sorted(self._indexed().merged_ids.get(record.id, []), key=id_key)) or None
        if name in (ARCHIVED, ARCHIVED_AT, MERGED_INTO, "id"):
            return None
        return record.fields.get("lastmodifieddate" if name == "hs_lastmodifieddate" else name)

    def _shown(self, record: Record, wanted: Any, *, search: bool = False) -> dict[str, Any]:
        names = sorted({*ALWAYS, *(str(name) for name in wanted)})
        created = times.parse(record.fields.get("createdate")) or times.EPOCH
        archived = is_true(record.fields.get(ARCHIVED))
        shown: dict[str, Any] = {
            "id": record.id,
            "properties": {name: self._value(record, name) for name in names},
            "createdAt": times.hubspot(created),
            "updatedAt": times.hubspot(times.from_ms(record.modified_ms)),
            "archived": archived,
        }
        if archived:
            shown["archivedAt"] = record.fields.get(ARCHIVED_AT) or shown["updatedAt"]
        return shown

    # Search ----------------------------------------------------------------------------------------------------

    def _matching(self, groups: list[dict[str, Any]], sorts: list[Any]) -> list[Record]:
        """All live contacts that fit any group, in order; the last result is kept for its next pages."""
        index = self._held or self._indexed()
        question = (repr(groups), repr(sorts))
        found = self._found
        if found is not None and found[0] is index and found[1] == question:
            return found[2]
        name, descending = "createdate", False
        if sorts:
            rule = {"propertyName": sorts[0]} if isinstance(sorts[0], str) else sorts[0]
            name, descending = str(rule["propertyName"]), rule.get("direction", "ASCENDING") == "DESCENDING"
        keys, records = self._ordered(index, name)
        if len(groups) == 1:
            # Clients page by ranges of the property they sort by: cut these out instead of testing every contact.
            low, high, filters = 0, len(records), []
            for one in groups[0].get("filters") or []:
                cut = RANGES.get(str(one.get("operator"))) if one.get("propertyName") == name else None
                if cut is None:
                    filters.append(one)
                else:
                    value = _typed(name, str(one["value"]))
                    low, high = cut(keys, value, max(low, bisect_right(keys, UNSET)), high)
            records = records[low : max(low, high)]
            groups = [{"filters": filters}]
        tests = [[self._test(one) for one in group.get("filters") or []] for group in groups]
        if any(tests):
            records = [r for r in records if any(all(test(r) for test in group) for group in tests)]
        if descending:
            records = records[::-1]
        self._found = (index, question, records)
        return records

    def _ordered(self, index: _Index, name: str) -> tuple[list[OrderKey], list[Record]]:
        """All live contacts of an index by a property, those without it first, and what they are ordered by."""
        kept = self._orders.get(name)
        if kept is None or kept[0] is not index:
            live = [(self._order_key(r, name), id_key(r.id), r.seq, r) for r in index.live]
            live.sort(key=lambda entry: entry[:3])
            kept = self._orders[name] = (index, [e[0] for e in live], [e[3] for e in live])
        return kept[1], kept[2]

    def _order_key(self, record: Record, name: str) -> OrderKey:
        comparable = self._comparable(record, name)
        return UNSET if comparable is None else comparable

    def _comparable(self, record: Record, name: str) -> OrderKey | None:
        if name in ("lastmodifieddate", "hs_lastmodifieddate"):
            return (0, record.modified_ms, "")
        if name == "hs_object_id":
            return id_key(record.id)
        value = self._value(record, name)
        return None if value is None or value == "" else _typed(name, str(value))

    def _test(self, one: dict[str, Any]) -> Callable[[Record], bool]:
        name, operator = str(one["propertyName"]), str(one.get("operator"))
        if operator == "HAS_PROPERTY":
            return lambda r: self._comparable(r, name) is not None
        if operator == "NOT_HAS_PROPERTY":
            return lambda r: self._comparable(r, name) is None
        if operator in ("IN", "NOT_IN"):
            allowed = {_typed(name, str(value)) for value in one.get("values") or []}
            return lambda r: (self._comparable(r, name) in allowed) == (operator == "IN")
        if operator in ("CONTAINS_TOKEN", "NOT_CONTAINS_TOKEN"):
            token = str(one["value"]).strip("*").lower()
            contains = operator == "CONTAINS_TOKEN"
            return lambda r: (token in str(self._value(r, name) or "").lower()) == contains
        low = _typed(name, str(one["value"]))
        if operator == "BETWEEN":
            high = _typed(name, str(one["highValue"]))
            return lambda r: (found := self._comparable(r, name)) is not None and low <= found <= high
        comparison = COMPARISONS.get(operator)
        if comparison is None:
            raise _invalid(f"unknown operator {operator!r}")
        return lambda r: (found := self._comparable(r, name)) is not None and comparison(found, low)


# What a contact without the property is sorted by: before all others.
UNSET: OrderKey = (-1, 0, "")

Cut = Callable[[list[OrderKey], OrderKey, int, int], tuple[int, int]]

# The part of a sorted list that fits an operator, within the part found so far.
RANGES: dict[str, Cut] = {
    "GT": lambda keys, value, low, high: (max(low, bisect_right(keys, value)), high),
    "GTE": lambda keys, value, low, high: (max(low, bisect_left(keys, value)), high),
    "LT": lambda keys, value, low, high: (low, min(high, bisect_left(keys, value))),
    "LTE": lambda keys, value, low, high: (low, min(high, bisect_right(keys, value))),
    "EQ": lambda keys, value, low, high: (
        max(low, bisect_left(keys, value)),
        min(high, bisect_right(keys, value)),
    ),
}

COMPARISONS: dict[str, Callable[[OrderKey, OrderKey], bool]] = {
    "EQ": lambda a, b: a == b,
    "NEQ": lambda a, b: a != b,
    "LT": lambda a, b: a < b,
    "LTE": lambda a, b: a <= b,
    "GT": lambda a, b: a > b,
    "GTE": lambda a, b: a >= b,
}


def _typed(name: str, text: str) -> OrderKey:
    """A value as its property compares: dates as milliseconds, ids as numbers, text without case."""
    if name in DATES:
        ms = int(text) if is_number(text.removeprefix("-")) else times.parse_ms(text)
        return (1, 0, text) if ms is None else (0, ms, "")
    if name == "hs_object_id":
        return id_key(text)
    return (1, 0, text.lower())


def _last_survivor(start: str, direct: dict[str, str]) -> str:
    seen, current = {start}, direct[start]
    while current in direct and current not in seen:
        seen.add(current)
        current = direct[current]
    return current


def _properties(request: Request) -> list[str]:
    given = [name for value in request.query.get("properties", []) for name in value.split(",") if name]
    return given or list(DEFAULT)


def _invalid(message: str) -> HubSpotError:
    return HubSpotError(400, message, "VALIDATION_ERROR")


def _check_filters(groups: list[dict[str, Any]]) -> None:
    counts = [len(group.get("filters") or []) for group in groups]
    if len(groups) > MAX_GROUPS or max(counts, default=0) > MAX_FILTERS_IN_GROUP or sum(counts) > MAX_FILTERS:
        raise _invalid(
            f"a search takes {MAX_GROUPS} groups of {MAX_FILTERS_IN_GROUP} filters, {MAX_FILTERS} in all; "
            f"received {len(groups)} groups with {counts}"
        )


# Changes while it runs -----------------------------------------------------------------------------------------


def upsert(store: Store, fields: Fields, at: str | None) -> Record:
    """Create or update a contact: the given fields replace the stored ones; modified now, or when `at` says."""
    identifier = str(fields["id"])
    stamp = at or fields.get("lastmodifieddate") or times.hubspot(times.now())

    def edit(old: Record | None) -> tuple[int, Fields]:
        merged: Fields = (old.fields if old else {"createdate": stamp}) | fields | {"lastmodifieddate": stamp}
        ms = times.parse_ms(stamp)
        return (old.modified_ms if old else 0) if ms is None else ms, merged

    return store.change(CONTACTS, identifier, edit)


def archive(store: Store, identifier: str, at: str | None) -> Record:
    """Archive a contact: HubSpot leaves lastmodifieddate as it was and notes the time apart."""

    def edit(old: Record | None) -> tuple[int, Fields]:
        assert old is not None
        stamp = at or times.hubspot(times.now())
        return old.modified_ms, old.fields | {ARCHIVED: "true", ARCHIVED_AT: stamp}

    return store.change(CONTACTS, identifier, edit)


def merge(
    store: Store, primary: str, other: str, at: str | None, new_id: str | None, keep_primary: bool
) -> str:
    """Merge two contacts as HubSpot does: into a new one that has the primary's properties.

    `keep_primary` is the behaviour before January 2025: the primary itself survives.
    """
    rows = {identifier: store.with_id(CONTACTS, identifier) for identifier in (primary, other)}
    for identifier, found in rows.items():
        if not found:
            raise ValueError(f"no contact {identifier!r} to merge")
    stamp = at or times.hubspot(times.now())
    survivor = primary
    if not keep_primary:
        numbers = [int(r.id) for r in store.records(CONTACTS) if is_number(r.id) and len(r.id) < 19]
        survivor = new_id or str(max(numbers, default=0) + 1)
        old = rows[primary][-1].fields
        upsert(store, old | {"id": survivor, MERGED_INTO: "", ARCHIVED: "false"}, stamp)
        upsert(store, {"id": primary, MERGED_INTO: survivor}, stamp)
    else:
        upsert(store, {"id": primary}, stamp)
    upsert(store, {"id": other, MERGED_INTO: survivor}, stamp)
    return survivor
