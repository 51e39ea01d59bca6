"""The doubles' remote control, served under /_admin/ on each of their ports. Its client is local.saas.admin."""

from __future__ import annotations

from typing import Any

from local.saas import credentials, ecb, hubspot, salesforce
from local.saas.store import Store
from local.saas.web import Answer, Control, Request

SERVICES = ("hubspot", "salesforce", "ecb")
COLLECTIONS = {
    ("hubspot", "contacts"): hubspot.CONTACTS,
    ("salesforce", "Account"): salesforce.collection("Account"),
    ("salesforce", "Lead"): salesforce.collection("Lead"),
    ("ecb", "rates"): ecb.RATES,
}


class Admin:
    def __init__(
        self, store: Store, control: Control, contacts: hubspot.HubSpot, sales: salesforce.Salesforce
    ) -> None:
        self._store = store
        self._control = control
        self._hubspot = contacts
        self._salesforce = sales

    def __call__(self, request: Request) -> Answer:
        action = request.path.removeprefix("/_admin/").rstrip("/")
        if request.method == "GET":
            reader = {
                "health": self._health,
                "state": self._state,
                "loaded": self._loaded,
                "requests": self._requests,
            }
            if action == "faults":
                return Answer.of(self._control.described())
            if action in reader:
                return Answer.of(reader[action](request))
        elif request.method == "DELETE" and action in ("faults", "requests"):
            with self._control.lock:
                (self._control.faults if action == "faults" else self._control.log).clear()
            return Answer.of({"status": "ok"})
        elif request.method in ("POST", "PUT"):
            writer = getattr(self, f"_do_{action}", None)
            if writer is not None:
                return Answer.of(writer(request.json()))
        return Answer.of(
            {"status": "error", "message": f"no such action: {request.method} /_admin/{action}"}, 404
        )

    # Reading ---------------------------------------------------------------------------------------------------

    def _health(self, request: Request) -> Any:
        return {"status": "ok"}

    def _state(self, request: Request) -> Any:
        return {f"{service}.{name}": self._store.count(key) for (service, name), key in COLLECTIONS.items()}

    def _loaded(self, request: Request) -> Any:
        return self._store.loaded(_collection(request.one("service"), request.one("object")))

    def _requests(self, request: Request) -> Any:
        wanted = request.one("service")
        return [entry for entry in list(self._control.log) if wanted in ("", entry["service"])]

    # Writing ---------------------------------------------------------------------------------------------------

    def _do_load(self, body: dict[str, Any]) -> Any:
        service, name, rows = body["service"], body["object"], body["rows"]
        key = _collection(service, name)
        if service == "hubspot":
            prepared = hubspot.rows_of_load(rows)
        elif service == "salesforce":
            prepared = salesforce.rows_of_load(name, rows)
        else:
            prepared = ecb.rows_of_load(rows)
        files = [(entry["sha256"], entry["name"]) for entry in body.get("files", [])]
        return {"rows": self._store.load(key, prepared, files)}

    def _do_upsert(self, body: dict[str, Any]) -> Any:
        service, name, fields, at = body["service"], body["object"], body["fields"], body.get("at")
        _collection(service, name)
        if service == "hubspot":
            return hubspot.upsert(self._store, fields, at).fields
        if service == "salesforce":
            return salesforce.upsert(self._store, name, fields, at).fields
        stored = self._store.with_id(ecb.RATES, str(fields["date"]))
        quotes = (stored[-1].fields["quotes"] if stored else {}) | fields["quotes"]
        self._store.put(ecb.RATES, str(fields["date"]), 0, {"date": fields["date"], "quotes": quotes})
        return {"date": fields["date"], "quotes": quotes}

    def _do_delete(self, body: dict[str, Any]) -> Any:
        """Archive a contact or put a row into Salesforce's bin; with purge it is gone without a trace."""
        service, name, identifier, at = body["service"], body["object"], str(body["id"]), body.get("at")
        key = _collection(service, name)
        if not self._store.with_id(key, identifier):
            raise ValueError(f"no {service} {name} {identifier!r}")
        if body.get("purge") or service == "ecb":
            return {"removed": self._store.remove(key, identifier)}
        if service == "hubspot":
            return hubspot.archive(self._store, identifier, at).fields
        return salesforce.upsert(self._store, name, {"Id": identifier, "IsDeleted": "true"}, at).fields

    def _do_merge(self, body: dict[str, Any]) -> Any:
        survivor = hubspot.merge(
            self._store,
            str(body["primary"]),
            str(body["other"]),
            body.get("at"),
            body.get("new_id"),
            bool(body.get("keep_primary", False)),
        )
        return {"id": survivor}

    def _do_faults(self, body: Any) -> Any:
        for described in body if isinstance(body, list) else [body]:
            if described.get("service") not in SERVICES:
                raise ValueError(f"service must be one of {SERVICES}, received {described.get('service')!r}")
            self._control.add(described)
        return self._control.described()

    def _do_expire(self, body: dict[str, Any]) -> Any:
        what = body.get("what", "sessions")
        double = self._salesforce
        return {"expired": double.expire_sessions() if what == "sessions" else double.expire_locators()}

    def _do_transaction(self, body: dict[str, Any]) -> Any:
        """Begin a transaction of Salesforce, whose changes nobody sees, or end it: {"open": true, "at": null}."""
        if body["open"]:
            self._salesforce.begin(body.get("at"))
        else:
            self._salesforce.commit()
        return {"status": "ok"}

    def _do_index(self, body: dict[str, Any]) -> Any:
        """Hold back HubSpot's search index, or let it catch up: {"held": true}."""
        (self._hubspot.hold_index if body["held"] else self._hubspot.catch_up)()
        return {"status": "ok"}

    def _do_credentials(self, body: dict[str, Any]) -> Any:
        """Change what is accepted, e.g. {"hubspot": {"token": "new"}}; null restores the default."""
        for service, changed in body.items():
            current = accepted(self._store, service)
            self._store.set_setting(f"credentials.{service}", None if changed is None else current | changed)
        return {"status": "ok"}

    def _do_as_of(self, body: dict[str, Any]) -> Any:
        """Publish ECB rates only up to this date; null publishes all."""
        self._store.set_setting("ecb.as_of", body["date"])
        return {"status": "ok"}

    def _do_reset(self, body: dict[str, Any]) -> Any:
        """Forget the data, faults and settings of one service, or of all."""
        chosen = [body["service"]] if body.get("service") else list(SERVICES)
        for (service, _), key in COLLECTIONS.items():
            if service in chosen:
                self._store.clear(key)
        for service in chosen:
            self._store.set_setting(f"credentials.{service}", None)
        if "ecb" in chosen:
            self._store.set_setting("ecb.as_of", None)
        if "hubspot" in chosen:
            self._hubspot.catch_up()
        if "salesforce" in chosen:
            self._salesforce.commit()
        with self._control.lock:
            self._control.faults[:] = [f for f in self._control.faults if f.service not in chosen]
        return {"status": "ok"}


def accepted(store: Store, service: str) -> dict[str, str]:
    """The credentials a double accepts now."""
    defaults = {"hubspot": credentials.HUBSPOT, "salesforce": credentials.SALESFORCE}
    if service not in defaults:
        raise ValueError(f"service with credentials must be one of {sorted(defaults)}, received {service!r}")
    return store.setting(f"credentials.{service}") or dict(defaults[service])


def _collection(service: str, name: str) -> str:
    try:
        return COLLECTIONS[(service, name)]
    except KeyError:
        known = ", ".join(f"{s} {n}" for s, n in COLLECTIONS)
        raise ValueError(f"unknown {service!r} {name!r}; known are {known}") from None
