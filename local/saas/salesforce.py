"""Salesforce: SOAP login, OAuth tokens, REST queries with locators, deleted rows through queryAll.

SystemModstamp is the time of a change, which others see once its transaction ends (``begin``, ``commit``): by then it
can be long past. ``latestDateCovered`` of sObject Get Updated says since when one is at work.
"""

from __future__ import annotations

import base64
import re
import secrets
import threading
import xml.etree.ElementTree as ET
from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from typing import Any
from urllib.parse import parse_qs
from xml.sax.saxutils import escape

from lakehouse import published
from local.data_layout import SALESFORCE_ACCOUNTS, SALESFORCE_LEADS
from local.saas import soql, times
from local.saas.store import Fields, Record, Store
from local.saas.web import Answer, Fault, Request, Service

# What Salesforce says with a code.
FAILURES = {
    "INVALID_SESSION_ID": "Session expired or invalid",
    "REQUEST_LIMIT_EXCEEDED": "TotalRequests Limit exceeded.",
    "QUERY_TIMEOUT": "Your query request was running for too long.",
    "UNABLE_TO_LOCK_ROW": "unable to obtain exclusive access to this record",
    "unknown_error": "retry your request",
}
BATCH, SMALLEST_BATCH = 2000, 200
OLDEST_UPDATED = timedelta(days=30)
# login() by SOAP ends with API version 64; 65 and later refuse it.
LAST_SOAP_LOGIN = 64
ORGANISATION, USER = "00D5i000000LOCALEA0", "0055i000000LOCALAA0"

BOOLEANS = frozenset({"IsDeleted", "IsConverted"})
DATETIMES = frozenset({"CreatedDate", "LastModifiedDate", "SystemModstamp"})
OBJECTS = {"Account": SALESFORCE_ACCOUNTS, "Lead": SALESFORCE_LEADS}


def collection(name: str) -> str:
    return f"salesforce.{name}"


def rows_of_load(name: str, rows: list[Fields]) -> list[tuple[str, int, Fields]]:
    """Rows of a file as the store wants them.

    Salesforce stamps SystemModstamp itself; a file can hold something that is no time. Such a row is indexed at
    the newest time of the load, so that a query by time still finds it, its field unchanged.
    """
    parsed = [times.parse_ms(row.get("SystemModstamp")) for row in rows]
    newest = max((ms for ms in parsed if ms is not None), default=0)
    return [
        (str(row.get("Id") or ""), newest if ms is None else ms, row)
        for row, ms in zip(rows, parsed, strict=True)
    ]


class Salesforce(Service):
    name = "salesforce"

    def __init__(self, store: Store, credentials: Callable[[], Mapping[str, str]]) -> None:
        self._store = store
        self._credentials = credentials
        self._sessions: set[str] = set()
        self._locators: dict[str, tuple[str, list[dict[str, Any]], int]] = {}
        self._schema: tuple[int, dict[str, dict[str, str]]] | None = None
        self._transaction: tuple[datetime, dict[str, list[Record]]] | None = None
        self._lock = threading.Lock()

    def begin(self, at: str | None = None) -> None:
        """Begin a transaction, now or when ``at`` says: of what changes from here on, nobody sees anything."""
        started = times.parse(at) or times.now()
        seen = {name: self._store.records(collection(name)) for name in OBJECTS}
        self._transaction = (started, seen)

    def commit(self) -> None:
        """End the transaction: its changes are there, stamped with the times at which they were made."""
        self._transaction = None

    def expire_sessions(self) -> int:
        with self._lock:
            count = len(self._sessions)
            self._sessions.clear()
        return count

    def expire_locators(self) -> int:
        with self._lock:
            count = len(self._locators)
            self._locators.clear()
        return count

    # Behaviour -------------------------------------------------------------------------------------------------

    def answer(self, request: Request) -> Answer:
        path = request.path.rstrip("/")
        if request.method == "POST" and (match := re.fullmatch(r"/services/Soap/[uc]/(\d+)\.\d(/.*)?", path)):
            return self._soap_login(request, int(match[1]))
        if request.method == "POST" and path == "/services/oauth2/token":
            return self._token(request)
        if path == "/services/data" and request.method == "GET":
            versions = [
                {"label": "Local", "url": f"/services/data/v{v}.0", "version": f"{v}.0"} for v in (59, 64, 66)
            ]
            return Answer.of(versions)
        if not self._known_session(request):
            return failed(401, "INVALID_SESSION_ID", "Session expired or invalid")
        if match := re.fullmatch(r"(/services/data/v\d+\.\d)/(query|queryAll)(?:/([^/]+))?", path):
            if request.method != "GET":
                return failed(
                    405, "METHOD_NOT_ALLOWED", f"HTTP Method '{request.method}' not allowed. Allowed are GET"
                )
            try:
                if match[3]:
                    return self._more(match[1], match[3])
                return self._query(request, match[1], deleted=match[2] == "queryAll")
            except soql.SoqlError as error:
                return failed(400, error.code, str(error))
        if match := re.fullmatch(r"/services/data/v\d+\.\d/sobjects/(\w+)/describe", path):
            return self._describe(match[1])
        if match := re.fullmatch(r"/services/data/v\d+\.\d/sobjects/(\w+)/updated", path):
            return self._updated(match[1], request)
        if re.fullmatch(r"/services/data/v\d+\.\d/limits", path):
            return Answer.of({"DailyApiRequests": {"Max": 15000, "Remaining": 14998}})
        return failed(404, "NOT_FOUND", "The requested resource does not exist")

    def failure(self, fault: Fault) -> Answer:
        """In the form of the door that was knocked at: SOAP's login, OAuth's, or REST."""
        default = {401: "INVALID_SESSION_ID", 403: "REQUEST_LIMIT_EXCEEDED", 503: "SERVER_UNAVAILABLE"}
        code = fault.code or default.get(fault.status, "UNKNOWN_EXCEPTION")
        name, _, reason = code.partition(": ")
        known = published.find("salesforce oauth", code) or published.find("salesforce", code)
        status = known.status if known and fault.status == 500 else fault.status
        message = reason or FAILURES.get(code, "An unexpected error occurred.")
        headers = {} if fault.retry_after is None else {"Retry-After": fault.retry_after}
        if "/services/Soap/" in fault.path:
            answer = _soap_fault(code, message)
            return Answer(fault.status, answer.body, answer.content_type, headers)
        if fault.path == "/services/oauth2/token":
            return Answer.of({"error": name, "error_description": message}, status, **headers)
        return Answer.of([{"message": message, "errorCode": code}], status, **headers)

    def _known_session(self, request: Request) -> bool:
        token = request.headers.get("authorization", "").removeprefix("Bearer ")
        with self._lock:
            return token in self._sessions

    def _new_session(self) -> str:
        session = f"{ORGANISATION[:15]}!{secrets.token_urlsafe(48)}"
        with self._lock:
            self._sessions.add(session)
        return session

    # Login -----------------------------------------------------------------------------------------------------

    def _soap_login(self, request: Request, version: int) -> Answer:
        given = {
            element.tag.rpartition("}")[2]: element.text or ""
            for element in ET.fromstring(request.body).iter()
        }
        accepted = self._credentials()
        if version > LAST_SOAP_LOGIN:
            return _soap_fault(
                "INVALID_OPERATION", "SOAP API login() is not available in API version 65.0 and later."
            )
        passwords = (accepted["password"] + accepted["security_token"],)
        if given.get("username") != accepted["username"] or given.get("password") not in passwords:
            return _soap_fault(
                "INVALID_LOGIN", "Invalid username, password, security token; or user locked out."
            )
        url = f"http://127.0.0.1:{request.port}/services/Soap/u/{version}.0/{ORGANISATION[:15]}"
        return _xml(
            200,
            "<loginResponse><result><metadataServerUrl>"
            + escape(url.replace("/u/", "/m/"))
            + "</metadataServerUrl>"
            "<passwordExpired>false</passwordExpired><sandbox>false</sandbox>"
            f"<serverUrl>{escape(url)}</serverUrl><sessionId>{escape(self._new_session())}</sessionId>"
            f"<userId>{USER}</userId><userInfo><organizationId>{ORGANISATION}</organizationId>"
            f"<userName>{escape(accepted['username'])}</userName></userInfo></result></loginResponse>",
        )

    def _token(self, request: Request) -> Answer:
        form = {name: values[-1] for name, values in parse_qs(request.body.decode("utf-8")).items()}
        header = request.headers.get("authorization", "")
        if header.startswith("Basic "):
            name, _, secret = base64.b64decode(header[6:]).decode("utf-8").partition(":")
            form |= {"client_id": name, "client_secret": secret}
        accepted = self._credentials()
        grant = form.get("grant_type")
        if grant not in ("password", "client_credentials"):
            return _refused("unsupported_grant_type", "grant type not supported")
        if form.get("client_id") != accepted["client_id"]:
            return _refused("invalid_client_id", "client identifier invalid")
        if form.get("client_secret") != accepted["client_secret"]:
            return _refused("invalid_client", "invalid client credentials")
        if grant == "password":
            secrets_accepted = (accepted["password"], accepted["password"] + accepted["security_token"])
            if form.get("username") != accepted["username"] or form.get("password") not in secrets_accepted:
                return _refused("invalid_grant", "authentication failure")
        instance = f"http://127.0.0.1:{request.port}"
        return Answer.of(
            {
                "access_token": self._new_session(),
                "instance_url": instance,
                "id": f"{instance}/id/{ORGANISATION}/{USER}",
                "token_type": "Bearer",
                "issued_at": str(int(times.now().timestamp() * 1000)),
                "signature": "local",
            }
        )

    # Queries ---------------------------------------------------------------------------------------------------

    def _known_fields(self) -> dict[str, dict[str, str]]:
        """Fields of each object with their types: the documented ones and those that loaded files brought."""
        schema = self._schema
        if schema is not None and schema[0] == self._store.version:
            return schema[1]
        version = self._store.version
        known: dict[str, dict[str, str]] = {}
        for name, layout in OBJECTS.items():
            fields = dict.fromkeys(layout.columns)
            for record in self._store.records(collection(name)):
                if record.fields.keys() - fields.keys():
                    fields |= dict.fromkeys(record.fields)
            known[name] = {field: _kind(field) for field in fields}
        self._schema = (version, known)
        return known

    def _query(self, request: Request, root: str, *, deleted: bool) -> Answer:
        kinds = self._known_fields()
        query = soql.parse(request.one("q"), kinds)
        rows = []
        for record in self._committed(query.source):
            row = _typed(record)
            if (deleted or row.get("IsDeleted") is not True) and query.where(_indexed(record, row)):
                rows.append(row)
        ordered = soql.ordered(rows, query, kinds[query.source])  # type: ignore[arg-type]
        ordered = ordered[query.offset :]
        if query.limit is not None:
            ordered = ordered[: query.limit]
        if not query.fields:
            return Answer.of({"totalSize": len(ordered), "done": True, "records": []})
        records = [
            {"attributes": {"type": query.source, "url": f"{root}/sobjects/{query.source}/{row.get('Id')}"}}
            | {field: row.get(field) for field in query.fields}
            for row in ordered
        ]
        size = BATCH
        if match := re.search(r"batchSize\s*=\s*(\d+)", request.headers.get("sforce-query-options", "")):
            size = min(BATCH, max(SMALLEST_BATCH, int(match[1])))
        locator = f"01g{secrets.token_hex(6).upper()}AAA"
        with self._lock:
            self._locators[locator] = (query.source, records, size)
            while len(self._locators) > 50:
                del self._locators[next(iter(self._locators))]
        return self._batch(root, locator, 0)

    def _more(self, root: str, cursor: str) -> Answer:
        locator, _, position = cursor.rpartition("-")
        with self._lock:
            known = locator in self._locators
        if not known or not position.isdigit():
            return failed(400, "INVALID_QUERY_LOCATOR", "invalid query locator")
        return self._batch(root, locator, int(position))

    def _batch(self, root: str, locator: str, start: int) -> Answer:
        with self._lock:
            _, records, size = self._locators[locator]
        done = start + size >= len(records)
        body: dict[str, Any] = {"totalSize": len(records), "done": done}
        if not done:
            body["nextRecordsUrl"] = f"{root}/query/{locator}-{start + size}"
        return Answer.of(body | {"records": records[start : start + size]})

    def _committed(self, name: str) -> list[Record]:
        return (
            self._store.records(collection(name)) if self._transaction is None else self._transaction[1][name]
        )

    def _updated(self, name: str, request: Request) -> Answer:
        """Ids changed in a range of whole minutes, and the time until which the answer is complete."""
        if name not in OBJECTS:
            return failed(404, "NOT_FOUND", "The requested resource does not exist")
        bounds = [times.parse(request.one(bound)) for bound in ("start", "end")]
        start, end = (bound and bound.replace(second=0, microsecond=0) for bound in bounds)
        now = times.now()
        if start is None or end is None or start >= end or not now - OLDEST_UPDATED <= start <= now:
            return failed(
                400,
                "INVALID_REPLICATION_DATE",
                "startDate and endDate must be at least one minute apart, and within the last 30 days",
            )
        found = [
            record.id
            for record in self._committed(name)
            if start <= times.from_ms(record.modified_ms) < end and not _typed(record)["IsDeleted"]
        ]
        covered = end if self._transaction is None else min(end, self._transaction[0])
        return Answer.of({"ids": found, "latestDateCovered": times.salesforce(covered)})

    def _describe(self, name: str) -> Answer:
        fields = self._known_fields().get(name)
        if fields is None:
            return failed(404, "NOT_FOUND", "The requested resource does not exist")
        return Answer.of({"name": name, "fields": [{"name": f, "type": kind} for f, kind in fields.items()]})


def _kind(field: str) -> str:
    return "boolean" if field in BOOLEANS else "datetime" if field in DATETIMES else "string"


def _typed(record: Record) -> dict[str, Any]:
    """A stored row as the API returns it: no empty strings, booleans and times in their JSON forms.

    What is no boolean or time stays as it is, and so does a time finer than Salesforce's milliseconds.
    """
    row: dict[str, Any] = {}
    for field, value in record.fields.items():
        if value is None or value == "":
            row[field] = False if field in BOOLEANS else None
        elif field in BOOLEANS and str(value).strip().lower() in ("true", "false", "1", "0"):
            row[field] = str(value).strip().lower() in ("true", "1")
        elif (
            field in DATETIMES
            and (moment := times.parse(value)) is not None
            and moment.microsecond % 1000 == 0
        ):
            row[field] = times.salesforce(moment)
        else:
            row[field] = value
    for field in ("IsDeleted",):
        row.setdefault(field, False)
    row.setdefault("LastModifiedDate", row.get("SystemModstamp"))
    return row


def _indexed(record: Record, row: dict[str, Any]) -> dict[str, Any]:
    """The row as conditions see it: always with a modification time."""
    if times.parse(row.get("SystemModstamp")) is not None:
        return row
    return row | {"SystemModstamp": times.salesforce(times.from_ms(record.modified_ms))}


def failed(status: int, code: str, message: str) -> Answer:
    return Answer.of([{"message": message, "errorCode": code}], status)


def _refused(code: str, description: str) -> Answer:
    return Answer.of({"error": code, "error_description": description}, 400)


def _xml(status: int, body: str) -> Answer:
    text = (
        '<?xml version="1.0" encoding="UTF-8"?><soapenv:Envelope '
        'xmlns:soapenv="http://schemas.xmlsoap.org/soap/envelope/" xmlns="urn:partner.soap.sforce.com" '
        'xmlns:sf="urn:fault.partner.soap.sforce.com" xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance">'
        f"<soapenv:Body>{body}</soapenv:Body></soapenv:Envelope>"
    )
    return Answer(status, text.encode("utf-8"), "text/xml; charset=utf-8")


def _soap_fault(code: str, message: str) -> Answer:
    return _xml(
        500,
        f"<soapenv:Fault><faultcode>sf:{code}</faultcode><faultstring>{code}: {message}</faultstring>"
        f'<detail><sf:LoginFault xsi:type="sf:LoginFault"><sf:exceptionCode>{code}</sf:exceptionCode>'
        f"<sf:exceptionMessage>{message}</sf:exceptionMessage></sf:LoginFault></detail></soapenv:Fault>",
    )


# Changes while it runs -----------------------------------------------------------------------------------------


def upsert(store: Store, name: str, fields: Fields, at: str | None) -> Record:
    """Create or update a row: the given fields replace the stored ones; stamped now, or when `at` says."""
    stamp = at or fields.get("SystemModstamp") or times.salesforce(times.now())

    def edit(old: Record | None) -> tuple[int, Fields]:
        merged: Fields = (old.fields if old else {"CreatedDate": stamp}) | fields
        merged |= {"SystemModstamp": stamp, "LastModifiedDate": fields.get("LastModifiedDate", stamp)}
        ms = times.parse_ms(stamp)
        return (old.modified_ms if old else 0) if ms is None else ms, merged

    return store.change(collection(name), str(fields["Id"]), edit)
