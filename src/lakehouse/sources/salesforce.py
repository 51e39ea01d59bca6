"""Salesforce accounts and leads (REST, SOQL) to landing files, deleted records included.

Windows are on SystemModstamp, which every change moves, also one that leaves LastModifiedDate alone. It is the time of
the change, which others see once its transaction ends: a watermark stays behind every transaction that is at work, by
the word of Salesforce (latestDateCovered of sObject Get Updated), and the next window overlaps it besides.
(https://developer.salesforce.com/docs/platform/api-rest/guide/resources-getupdated.html)
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar
from urllib.parse import urlsplit, urlunsplit

import requests
from requests.adapters import HTTPAdapter
from simple_salesforce.api import Salesforce
from simple_salesforce.exceptions import SalesforceAuthenticationFailed, SalesforceError

from lakehouse.errors import (
    ContractViolation,
    CredentialsError,
    LakehouseError,
    Violation,
)
from lakehouse.landing import LandingWriter, Manifest, read_manifest
from lakehouse.masks import short
from lakehouse.published import ComeBackLater, Means, Published, find
from lakehouse.runs import run_time
from lakehouse.secrets import read_secret
from lakehouse.settings import Settings
from lakehouse.sources.fields import source_fields
from lakehouse.sources.retry import http_failure, patiently
from lakehouse.sources.watermark import Newest, Watermark, backfilled, overlap, parse_time, window_end

SOURCE = "salesforce"
_TIMEOUT = (10.0, 120.0)
# What the question for open transactions spans: more than clocks differ, and few ids.
_COVERED = timedelta(minutes=15)
_UNKNOWN = Published("", Means.REFUSED, "look the code up in Salesforce's API guides; nothing was landed")
_FIELDS = {
    "client_credentials": ("instance_url", "client_id", "client_secret"),
    "password": ("instance_url", "username", "password", "security_token"),
}

T = TypeVar("T")


@dataclass(frozen=True)
class SObject:
    """A Salesforce object and the Bronze table that it feeds."""

    name: str
    table: str

    @property
    def fields(self) -> tuple[str, ...]:
        return source_fields(self.table)


SOBJECTS = (SObject("Account", "salesforce_accounts"), SObject("Lead", "salesforce_leads"))


def extract(settings: Settings, run_id: str, watermarks: Mapping[str, Watermark]) -> tuple[Manifest, ...]:
    """Land both objects: records changed or deleted since the watermark, less an overlap for late commits.

    Raises ContractViolation naming every field that is missing in either object, CredentialsError,
    SourceUnavailable, SourceError.
    """
    landed = {item.name: read_manifest(settings, SOURCE, item.table, run_id) for item in SOBJECTS}
    if not all(landed.values()):
        org = _Org(settings)
        org.require_fields()
        for item in SOBJECTS:
            if landed[item.name] is None:
                landed[item.name] = _land(
                    settings, run_id, org, item, watermarks.get(item.table, Watermark())
                )
    return tuple(manifest for manifest in landed.values() if manifest is not None)


def backfill(settings: Settings, run_id: str, since: datetime, until: datetime) -> tuple[Manifest, ...]:
    """Land records of both objects changed or deleted in [since, until). Raises as ``extract`` does."""
    landed = {item.name: read_manifest(settings, SOURCE, item.table, run_id) for item in SOBJECTS}
    if not all(landed.values()):
        org = _Org(settings)
        org.require_fields()
        for item in SOBJECTS:
            if landed[item.name] is None:
                writer = LandingWriter(settings, SOURCE, item.table, run_id, kind="backfill")
                writer.write_rows(org.changed(item, since, until))
                landed[item.name] = writer.commit(
                    window_from=since, window_to=None, fields=item.fields, notes=[backfilled(since, until)]
                )
    return tuple(manifest for manifest in landed.values() if manifest is not None)


def known_ids(settings: Settings, table: str) -> list[tuple[str, bool, datetime | None]]:
    """Every record that Salesforce still knows: id, whether it is deleted, SystemModstamp. Raises as ``extract``."""
    (item,) = (item for item in SOBJECTS if item.table == table)
    return [
        (record["Id"], record["IsDeleted"], parse_time(record["SystemModstamp"]))
        for record in _Org(settings).known(item)
    ]


def _land(settings: Settings, run_id: str, org: _Org, item: SObject, watermark: Watermark) -> Manifest:
    since = watermark.since(overlap(settings, SOURCE))
    newest = Newest()
    covered = org.covered(item)

    def rows() -> Iterator[Mapping[str, Any]]:
        for record in org.changed(item, since):
            newest.see(parse_time(record.get("SystemModstamp")))
            yield record

    writer = LandingWriter(settings, SOURCE, item.table, run_id)
    writer.write_rows(rows())
    return writer.commit(
        window_from=since,
        window_to=window_end(newest.time, watermark, min(run_time(run_id), covered)),
        fields=item.fields,
    )


def _literal(time: datetime) -> str:
    """A SOQL dateTime."""
    return time.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


class _Org:
    """A logged-in Salesforce organisation."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings.sources.salesforce
        self._patience = settings.sources.retry
        self._salesforce: Any = self._call(self._login)

    def require_fields(self) -> None:
        """Raise ContractViolation naming every field that the organisation lacks or hides from us."""
        violations = []
        for item in SOBJECTS:
            described = self._call(lambda item=item: getattr(self._salesforce, item.name).describe())  # type: ignore[misc]
            known = {field["name"] for field in described["fields"]}
            violations += [
                Violation(f"{item.name}.{name}", "no such field", "a field (bronze." + item.table + ")")
                for name in item.fields
                if name not in known
            ]
        if violations:
            raise ContractViolation(
                "Salesforce objects lack fields that Bronze needs",
                violations=tuple(violations),
                hint="restore the field, or let the integration user read it (field-level security)",
            )

    def changed(
        self, item: SObject, since: datetime | None, until: datetime | None = None
    ) -> Iterator[dict[str, Any]]:
        """Records with SystemModstamp in [since, until), deleted and archived ones included (queryAll)."""
        query = f"SELECT {', '.join(item.fields)} FROM {item.name}"
        bounds = [
            f"SystemModstamp {operator} {_literal(time)}"
            for operator, time in ((">=", since), ("<", until))
            if time is not None
        ]
        if bounds:
            query += f" WHERE {' AND '.join(bounds)}"
        return self._records(query + " ORDER BY SystemModstamp, Id")

    def covered(self, item: SObject) -> datetime:
        """The time until which every change can be seen: now, or the start of the oldest transaction at work."""
        now = datetime.now(UTC)
        answer = self._call(lambda: getattr(self._salesforce, item.name).updated(now - _COVERED, now))
        covered = parse_time(answer.get("latestDateCovered"))
        return now if covered is None else min(covered, now)

    def known(self, item: SObject) -> Iterator[dict[str, Any]]:
        """Every record in a few fields, those in the bin included; what was purged is nowhere."""
        return self._records(
            f"SELECT Id, IsDeleted, SystemModstamp FROM {item.name} ORDER BY SystemModstamp, Id"
        )

    def _records(self, query: str) -> Iterator[dict[str, Any]]:
        page = self._call(lambda: self._salesforce.query(query, include_deleted=True))
        while True:
            for record in page["records"]:
                yield {name: value for name, value in record.items() if name != "attributes"}
            if page["done"]:
                return
            page = self._call(
                lambda url=page["nextRecordsUrl"]: self._salesforce.query_more(url, identifier_is_url=True)  # type: ignore[misc]
            )

    def _login(self) -> Any:
        """OAuth client credentials, or user, password and token by SOAP login(), which Salesforce retires in 2027."""
        secret = read_secret(self._settings.secret, _FIELDS[self._settings.auth])
        session = requests.Session()
        session.trust_env = self._settings.endpoint is None  # proxies and netrc are for the way to Salesforce
        session.mount("https://", _Transport(self._settings.endpoint, self._settings.secret))
        options: dict[str, Any] = {
            "session": session,
            "version": self._settings.api_version,
            "domain": _my_domain(secret["instance_url"], self._settings.endpoint, self._settings.secret),
        }
        if self._settings.auth == "client_credentials":
            options |= {"consumer_key": secret["client_id"], "consumer_secret": secret["client_secret"]}
        else:
            options |= {name: secret[name] for name in ("username", "password", "security_token")}
        return Salesforce(**options)

    def _call(self, call: Callable[[], T]) -> T:
        def once() -> T:
            try:
                return call()
            except SalesforceError as error:
                raise _meaning(error, self._settings.secret) from None
            except requests.RequestException as error:
                raise ComeBackLater(
                    f"Salesforce: received no usable answer ({type(error).__name__})"
                ) from error

        return patiently(once, self._patience)


class _Transport(HTTPAdapter):
    """Carries requests to ``endpoint`` where one is set, with a timeout, and turns bad weather into ComeBackLater.

    simple-salesforce hard-codes https://<domain>.salesforce.com for login, so that only the transport can lead it
    elsewhere.
    """

    def __init__(self, endpoint: str | None, secret: str) -> None:
        super().__init__()
        self._endpoint = urlsplit(endpoint) if endpoint else None
        self._secret = secret

    def send(self, request: requests.PreparedRequest, *args: Any, **kwargs: Any) -> requests.Response:
        if self._endpoint is not None:
            path = urlsplit(request.url or "")._replace(
                scheme=self._endpoint.scheme, netloc=self._endpoint.netloc
            )
            request.url = str(urlunsplit(path))
        if kwargs.get("timeout") is None:
            kwargs["timeout"] = _TIMEOUT
        response = super().send(request, *args, **kwargs)
        # At the door, the client does not take REST's form of an error for one.
        if response.status_code >= 400 and "/services/data/" not in (request.url or ""):
            content = _json(response)
            if _codes(content):
                raise _refusal("login", response.status_code, content, self._secret)
        # SOAP answers 500 to a wrong password: its meaning is in the body, which the client reads.
        is_soap = "/services/Soap/" in (request.url or "")
        if (
            response.status_code in {408, 429}
            or response.status_code > 500
            or (response.status_code == 500 and not is_soap)
        ):
            raise http_failure("Salesforce", response.status_code, response.text, response.headers)
        return response


def _my_domain(instance_url: str, endpoint: str | None, secret: str) -> str:
    """The part of the My Domain host before .salesforce.com, as simple-salesforce wants it."""
    host = urlsplit(instance_url).hostname or ""
    match = re.fullmatch(r"(.+)\.salesforce\.com", host)
    if match:
        return match.group(1)
    if endpoint is not None:
        return "local"
    raise CredentialsError(
        f"secret {secret}: received an instance_url of another form, expected https://<name>.my.salesforce.com",
        hint="Setup → My Domain shows the address",
    )


def _meaning(error: SalesforceError, secret: str) -> LakehouseError:
    """What an error of the client means for us."""
    if not isinstance(error, SalesforceAuthenticationFailed):
        return _refusal(error.resource_name, error.status, error.content, secret)
    code, reason = str(error.code), str(error.auth_message)
    known = find("salesforce oauth", f"{code}: {reason}".lower(), code.lower()) or find("salesforce", code)
    return (known or _UNKNOWN).error(f"Salesforce login: received {code} ({short(reason)})", secret=secret)


def _refusal(what: str, status: int, content: Any, secret: str) -> LakehouseError:
    """What an answer in REST's form of an error means."""
    known = find("salesforce", *_codes(content)) or find("http", str(status))
    message = f"Salesforce {what}: received HTTP {status} ({_told(content)})"
    return (known or _UNKNOWN).error(message, secret=secret)


def _json(response: requests.Response) -> Any:
    try:
        return response.json()
    except ValueError:
        return None


def _codes(content: Any) -> list[str]:
    items = content if isinstance(content, list) else [content]
    return [str(item["errorCode"]) for item in items if isinstance(item, dict) and "errorCode" in item]


def _told(content: Any) -> str:
    """An answer's codes and first message, in a line."""
    items = content if isinstance(content, list) else [content]
    messages = [str(item["message"]) for item in items if isinstance(item, dict) and "message" in item]
    return ": ".join(
        [", ".join(_codes(content)) or "no error code", *(short(each, 300) for each in messages[:1])]
    )
