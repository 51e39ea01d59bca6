"""Who may sign in, by what, as which role, and what they may read."""

from __future__ import annotations

import hmac
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from local.saas import credentials
from local.snowflake import keys, refusals
from local.snowflake.refusals import Refusal, refusal

#: Privilege, database, schema and name; without a name all of the schema, without a schema all of the database.
Grant = tuple[str, ...]
SELECT, REFERENCES = "SELECT", "REFERENCES"


@dataclass
class User:
    """``accepted`` is what lets the user in; ``grants`` None: everything may be read and written."""

    accepted: dict[str, str]
    grants: set[Grant] | None = None

    @property
    def name(self) -> str:
        return self.accepted["username"].upper()

    def sees(self, *name: str) -> bool:
        """Whether a database, schema or table is there for the user: anything in it is granted, or all around it."""
        if self.grants is None:
            return True
        return any(_agree(grant[1:], name) for grant in self.grants)

    def reads(self, *name: str) -> bool:
        if self.grants is None:
            return True
        return any(grant[0] == SELECT and _agree(grant[1:], name) for grant in self.grants)


def _agree(granted: tuple[str, ...], name: tuple[str, ...]) -> bool:
    return all(left == right for left, right in zip(granted, name, strict=False))


@dataclass
class Users:
    """The two users of the local stack: the lakehouse's, and the one of the data-quality runner, who only reads."""

    state: Path
    by_name: dict[str, User] = field(default_factory=dict)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def __post_init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        """The credentials and grants of the beginning."""
        lakehouse = credentials.SNOWFLAKE | {
            "token": credentials.SNOWFLAKE_TOKEN,
            "public_key": keys.public_key(keys.private_key(self.state)),
        }
        reader = credentials.SNOWFLAKE_DQ | {
            "token": credentials.SNOWFLAKE_DQ_TOKEN,
            "public_key": keys.public_key(keys.private_key(self.state, keys.DQ)),
        }
        with self.lock:
            self.by_name = {
                "lakehouse": User(dict(lakehouse)),
                "dq": User(dict(reader), {(SELECT, *schema) for schema in credentials.SNOWFLAKE_DQ_SCHEMAS}),
            }

    def grant(self, grants: list[list[str]], revoked: list[list[str]]) -> list[Grant]:
        """Change what the runner's user may read; returns what it may read now."""
        with self.lock:
            held = (self.by_name["dq"].grants or set()) - {tuple(one) for one in revoked}
            self.by_name["dq"].grants = held | {_checked(tuple(one)) for one in grants}
            return sorted(self.by_name["dq"].grants or ())

    def sign_in(self, given: Mapping[str, Any], role: str | None) -> User | Refusal:
        """The user who signs in, or the words by which Snowflake refuses."""
        user = next(
            (one for one in self.by_name.values() if one.name == str(given.get("LOGIN_NAME", "")).upper()),
            None,
        )
        refused = _proof(given, user.accepted if user else {})
        if user is None or refused is not None:
            return refused or refusal(refusals.INCORRECT_LOGIN)
        granted = user.accepted.get("role")
        if role and granted and role.upper() not in (granted.upper(), "PUBLIC"):
            return refusal(refusals.ROLE_NOT_GRANTED, object=role.upper())
        return user


def _checked(grant: Grant) -> Grant:
    if grant[:1] not in ((SELECT,), (REFERENCES,)) or not 2 <= len(grant) <= 4:
        raise ValueError(f"received the grant {grant}, expected SELECT or REFERENCES and one to three names")
    return grant


def _proof(given: Mapping[str, Any], accepted: Mapping[str, str]) -> Refusal | None:
    token = str(given.get("TOKEN", ""))
    match given.get("AUTHENTICATOR"):
        case "SNOWFLAKE_JWT":
            known = [accepted[name] for name in ("public_key", "public_key_2") if accepted.get(name)]
            if any(keys.is_signed(token, accepted["account"], accepted["username"], key) for key in known):
                return None
            return refusal(refusals.INVALID_JWT)
        case "PROGRAMMATIC_ACCESS_TOKEN":
            if accepted.get("token") and hmac.compare_digest(token.encode(), accepted["token"].encode()):
                return None
            return refusal(refusals.INVALID_TOKEN)
        case None | "SNOWFLAKE":
            if accepted.get("password") and given.get("PASSWORD") == accepted["password"]:
                return None
    return refusal(refusals.INCORRECT_LOGIN)
