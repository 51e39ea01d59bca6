"""How Snowflake refuses: code, SQL state and words of the errors that clients have to tell apart.

(Snowflake documentation: error messages of the drivers; the words are those that the service sends.)
"""

from __future__ import annotations

from dataclasses import dataclass

INCORRECT_LOGIN, INVALID_JWT, INVALID_TOKEN = "390100", "390144", "394400"
ROLE_NOT_GRANTED = "390189"
INTERNAL_ERROR = "000603"
SYNTAX = "001003"
NO_OBJECT = "002003"
NO_OPERATION = "002043"
INVALID_IDENTIFIER = "000904"
NO_PRIVILEGE = "003001"
NO_WAREHOUSE = "000606"
WAREHOUSE_SUSPENDED = "090073"
TIMED_OUT, CANCELED = "000630", "000604"
TOO_MANY_WAITERS = "000625"
SESSION_EXPIRED = "390112"

_FORMS = {
    SYNTAX: ("42000", "SQL compilation error:\nsyntax error unexpected '{object}'."),
    NO_OBJECT: ("42S02", "SQL compilation error:\n{kind} '{object}' does not exist or not authorized."),
    NO_OPERATION: (
        "02000",
        "SQL compilation error:\nObject does not exist, or operation cannot be performed.",
    ),
    INVALID_IDENTIFIER: ("42000", "SQL compilation error:\ninvalid identifier '{object}'"),
    NO_PRIVILEGE: (
        "42501",
        "SQL access control error:\nInsufficient privileges to operate on {kind} '{object}'",
    ),
    NO_WAREHOUSE: (
        "57P03",
        "No active warehouse selected in the current session.  Select an active warehouse with the 'use warehouse' "
        "command.\n",
    ),
    WAREHOUSE_SUSPENDED: (
        "57014",
        "Warehouse '{warehouse}' cannot be resumed because resource monitor 'MONTHLY' has exceeded its quota.",
    ),
    TIMED_OUT: (
        "57014",
        "Statement reached its statement or warehouse timeout of {seconds} second(s) and was canceled.",
    ),
    CANCELED: ("57014", "SQL execution canceled"),
    TOO_MANY_WAITERS: (
        "57014",
        "Statement was aborted because the number of waiters for this lock exceeds the 20 statements limit.",
    ),
    SESSION_EXPIRED: ("08001", "Your session has expired. Please login again."),
    INCORRECT_LOGIN: ("08001", "Incorrect username or password was specified."),
    INVALID_JWT: ("08001", "JWT token is invalid."),
    INVALID_TOKEN: ("08001", "Programmatic access token is invalid."),
    ROLE_NOT_GRANTED: (
        "08001",
        "Role '{object}' specified in the connect string does not exist or not authorized. Contact your local system "
        "administrator, or attempt to login with another role, e.g. PUBLIC.",
    ),
}


@dataclass(frozen=True)
class Refusal:
    """One answer that is an error."""

    code: str
    state: str
    message: str


def refusal(code: str, **words: str | int) -> Refusal:
    """The service's form of an error. ``words`` fill its message: object, kind, warehouse, seconds."""
    state, form = _FORMS.get(code, ("XX000", "SQL execution internal error {code}"))
    told = {"code": code, "kind": "Object", "object": "", "warehouse": "", "seconds": 0} | words
    return Refusal(code, state, form.format_map(told))
