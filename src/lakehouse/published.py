"""The errors that services publish: what each means for a run, and what a person does about it.

One line a code. Sources read it to raise, the local doubles to answer, the tests to go through all of it. A hint sends
nobody to replace a secret unless the service says that it is the secret.

- HubSpot: https://developers.hubspot.com/docs/api-reference/error-handling
- Salesforce: ExceptionCode of the SOAP API Developer Guide, which REST answers with, too; "Status Codes and Error
  Responses" of the REST API Developer Guide; OAuth 2.0 Authorization Errors (help.salesforce.com)
- Snowflake: errorcode.py and network.py of its connector, and the messages of its sign-in
- Kafka: https://kafka.apache.org/protocol#protocol_error_codes; names that begin with _ are librdkafka's own
- ECB: plain HTTP, from behind a content delivery network
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from functools import cache

from lakehouse.errors import CredentialsError, LakehouseError, SourceError, SourceUnavailable


class Means(Enum):
    """What an error means: the first two are transient, the others terminal."""

    AGAIN = "worth another call within seconds"
    LATER = "passes by itself, but not within seconds"
    SECRET = "the secret's values are not accepted"
    RIGHTS = "the secret is accepted, what it asks for is not allowed"
    REFUSED = "the request will never be answered"


class ComeBackLater(SourceUnavailable):
    """A call that may work within seconds. ``retry_after``: the wait that the source asked for."""

    def __init__(self, message: str, *, retry_after: float | None = None, hint: str = "") -> None:
        super().__init__(message, hint=hint)
        self.retry_after = retry_after


@dataclass(frozen=True)
class Published:
    """An error as its service names it. ``status`` is the HTTP status it comes with (0: none)."""

    code: str
    means: Means
    hint: str
    status: int = 0

    def error(self, message: str, *, secret: str = "", retry_after: float | None = None) -> LakehouseError:
        """What a source raises. ``secret`` is the name that a hint about the secret needs."""
        hint = self.hint.format(secret=secret)
        if self.means is Means.AGAIN:
            return ComeBackLater(f"{message}, expected an answer", retry_after=retry_after, hint=hint)
        if self.means is Means.LATER:
            return SourceUnavailable(f"{message}, expected an answer", hint=hint)
        if self.means is Means.REFUSED:
            return SourceError(f"{message}, expected success", hint=hint)
        return CredentialsError(f"{message}, expected the request to be allowed", hint=hint)


AGAIN, LATER, SECRET, RIGHTS, REFUSED = Means
_RERUN = "run the task again later; nothing was landed"
_OWN_FAULT = (
    "compare the request with the change log of the API: this release asks for something it does not take"
)
_ADMINISTRATOR = "; the secret is good"

_HUBSPOT = (
    Published("400", REFUSED, _OWN_FAULT, 400),
    Published(
        "401",
        SECRET,
        "put the token of the private app into the secret {secret}: this one is not valid any more",
        401,
    ),
    Published(
        "403",
        RIGHTS,
        "give the private app whose token is in the secret {secret} the scope crm.objects.contacts.read; the token "
        "stays the same",
        403,
    ),
    Published("404", REFUSED, "check sources.hubspot.endpoint, and the change log of the API", 404),
    Published("408", AGAIN, _RERUN, 408),
    Published("414", REFUSED, "the list of properties is too long for an address: shorten the contract", 414),
    Published("423", AGAIN, "HubSpot locks for two seconds where much is written: " + _RERUN, 423),
    Published("425", AGAIN, _RERUN, 425),
    Published("429", AGAIN, "too many calls within seconds, of every app of the account: " + _RERUN, 429),
    Published(
        "429 DAILY", LATER, "the calls of the day are used up until midnight in the account's zone", 429
    ),
    Published(
        "477",
        AGAIN,
        "the account moves to another data centre, for up to 24 hours: run the task again after it",
        477,
    ),
    Published("500", AGAIN, _RERUN, 500),
    Published("502", AGAIN, "HubSpot's processing limit: " + _RERUN, 502),
    Published("503", AGAIN, _RERUN, 503),
    Published("504", AGAIN, "HubSpot's processing limit: " + _RERUN, 504),
    Published("521", AGAIN, "HubSpot's server is down: " + _RERUN, 521),
    Published("522", AGAIN, "the way to HubSpot timed out: " + _RERUN, 522),
    Published("523", AGAIN, "HubSpot cannot be reached from its network: " + _RERUN, 523),
    Published("524", AGAIN, "HubSpot took too long: " + _RERUN, 524),
    Published("525", AGAIN, "no TLS session within HubSpot's network: " + _RERUN, 525),
    Published("526", AGAIN, "a certificate within HubSpot's network is not valid: " + _RERUN, 526),
)

# Codes of REST and of SOAP's login().
_SALESFORCE = (
    Published(
        "API_CURRENTLY_DISABLED", RIGHTS, "give the user the permission API Enabled" + _ADMINISTRATOR, 403
    ),
    Published("API_DISABLED_FOR_ORG", RIGHTS, "the organisation's edition has no API" + _ADMINISTRATOR, 403),
    Published("CLIENT_NOT_ACCESSIBLE_FOR_USER", RIGHTS, "let the user use the app" + _ADMINISTRATOR, 403),
    Published("EXCEEDED_ID_LIMIT", LATER, "a mass change is at work: run the task again after it", 400),
    Published(
        "FUNCTIONALITY_NOT_ENABLED", RIGHTS, "let the organisation use the object" + _ADMINISTRATOR, 403
    ),
    Published("FUNCTIONALITY_TEMPORARILY_UNAVAILABLE", LATER, _RERUN, 400),
    Published(
        "INSUFFICIENT_ACCESS",
        RIGHTS,
        "give the user the permission Use Any API Auth, or sign in by "
        "auth: client_credentials" + _ADMINISTRATOR,
        403,
    ),
    Published(
        "INVALID_FIELD", REFUSED, "let the user read the field (field-level security), or restore it", 400
    ),
    Published(
        "INVALID_LOGIN",
        SECRET,
        "put the user's password and security token into the secret {secret}; a user "
        "that was locked out needs an administrator instead",
        500,
    ),
    Published(
        "INVALID_OPERATION",
        REFUSED,
        "SOAP's login() is off in the organisation, or too new for "
        "sources.salesforce.api_version: use auth: client_credentials",
        500,
    ),
    Published(
        "INVALID_OPERATION_WITH_EXPIRED_PASSWORD",
        SECRET,
        "set a new password and put it into the secret {secret}",
        500,
    ),
    Published(
        "INVALID_QUERY_LOCATOR", LATER, "the result expired while it was read: run the task again", 400
    ),
    Published(
        "INVALID_REPLICATION_DATE",
        REFUSED,
        "set the clock of this machine: Salesforce takes its time for one to come",
        400,
    ),
    Published(
        "INVALID_SESSION_ID",
        RIGHTS,
        "the login was accepted and its session was not: check the session "
        "settings and IP ranges of the user" + _ADMINISTRATOR,
        401,
    ),
    Published("INVALID_TYPE", REFUSED, "let the user read the object", 400),
    Published(
        "LOGIN_DURING_RESTRICTED_DOMAIN",
        RIGHTS,
        "add this address to the login IP ranges of the user's profile" + _ADMINISTRATOR,
        500,
    ),
    Published(
        "LOGIN_DURING_RESTRICTED_TIME",
        LATER,
        "the profile's login hours are over: run the task within them",
        500,
    ),
    Published("LOGIN_RATE_EXCEEDED", LATER, "the user logs in too often: run the task again in an hour", 500),
    Published("MALFORMED_QUERY", REFUSED, _OWN_FAULT, 400),
    Published("NOT_FOUND", REFUSED, "check sources.salesforce.api_version", 404),
    Published("ORG_LOCKED", REFUSED, "the organisation is locked: ask its owner", 500),
    Published(
        "PASSWORD_LOCKOUT", RIGHTS, "unlock the user; the secret is good unless its owner changed it", 500
    ),
    Published("QUERY_TIMEOUT", AGAIN, "the query took too long: " + _RERUN, 400),
    Published(
        "QUERY_TOO_COMPLICATED",
        REFUSED,
        "formula fields make the query too long: take them out of the contract",
        400,
    ),
    Published(
        "REQUEST_LIMIT_EXCEEDED",
        LATER,
        "the calls of 24 hours, or those at the same time, are used up: run the task again later",
        403,
    ),
    Published("REQUEST_RUNNING_TOO_LONG", AGAIN, _RERUN, 400),
    Published("SERVER_UNAVAILABLE", AGAIN, _RERUN, 503),
    Published("TRIAL_EXPIRED", REFUSED, "the organisation's trial is over: ask its owner", 500),
    Published("UNABLE_TO_LOCK_ROW", AGAIN, "others write the same record: " + _RERUN, 400),
    Published("UNKNOWN_EXCEPTION", AGAIN, "an error within Salesforce: " + _RERUN, 500),
    Published("UNSUPPORTED_API_VERSION", REFUSED, "set a newer sources.salesforce.api_version", 400),
)

# Codes of OAuth's token endpoint; with a description where the code alone says too little.
_SALESFORCE_OAUTH = (
    Published(
        "app_not_found", SECRET, "put the id of an app of this organisation into the secret {secret}", 400
    ),
    Published("inactive_org", REFUSED, "the organisation is locked, closed or suspended: ask its owner", 400),
    Published("inactive_user", RIGHTS, "activate the app's user" + _ADMINISTRATOR, 400),
    Published("invalid_app_access", RIGHTS, "let the user use the app" + _ADMINISTRATOR, 400),
    Published("invalid_client", SECRET, "put the app's client_secret into the secret {secret}", 400),
    Published(
        "invalid_client_credentials", SECRET, "put the app's client_secret into the secret {secret}", 400
    ),
    Published("invalid_client_id", SECRET, "put the app's client_id into the secret {secret}", 400),
    Published(
        "invalid_grant",
        RIGHTS,
        "the reason in brackets says what to change in Setup, for the app or its user; "
        "the secret changes only where its owner says so",
        400,
    ),
    Published(
        "invalid_grant: authentication failure",
        SECRET,
        "put working credentials into the secret {secret}",
        400,
    ),
    Published(
        "invalid_grant: ip restricted",
        RIGHTS,
        "add this address to the IP ranges of the user's profile or "
        "relax the app's IP restriction" + _ADMINISTRATOR,
        400,
    ),
    Published(
        "invalid_grant: no client credentials user enabled",
        RIGHTS,
        "name a Run As user in the app's client credentials flow" + _ADMINISTRATOR,
        400,
    ),
    Published(
        "invalid_grant: request not supported on this domain",
        REFUSED,
        "instance_url has to be the organisation's My Domain",
        400,
    ),
    Published("invalid_request", REFUSED, _OWN_FAULT, 400),
    Published("invalid_scope", RIGHTS, "give the app the scope api" + _ADMINISTRATOR, 400),
    Published("oauth_app_access_denied", RIGHTS, "let the user use the app" + _ADMINISTRATOR, 400),
    Published("oauth_app_blocked", RIGHTS, "unblock the app in Setup" + _ADMINISTRATOR, 400),
    Published("rate_limit_exceeded", LATER, "the user logs in too often: run the task again in an hour", 400),
    Published("server_error", AGAIN, _RERUN, 400),
    Published("temporarily_unavailable", AGAIN, _RERUN, 400),
    Published(
        "unauthorized_client", RIGHTS, "enable the client credentials flow of the app" + _ADMINISTRATOR, 400
    ),
    Published("unknown_error", AGAIN, "an error within Salesforce: " + _RERUN, 400),
    Published(
        "unsupported_grant_type",
        RIGHTS,
        "enable the client credentials flow of the app" + _ADMINISTRATOR,
        400,
    ),
)

# What HTTP says where a service says no more.
_HTTP = (
    Published("401", SECRET, "check the secret {secret}", 401),
    Published("403", RIGHTS, "ask the source's owner what the request lacks" + _ADMINISTRATOR, 403),
    Published("408", AGAIN, _RERUN, 408),
    Published("425", AGAIN, _RERUN, 425),
    Published("429", AGAIN, _RERUN, 429),
)

_ECB = (
    Published("403", LATER, "the ECB's network refuses this address for now: run the task again later", 403),
    Published(
        "404", REFUSED, "compare sources.fx with the addresses on the ECB's page of reference rates", 404
    ),
    Published("429", AGAIN, _RERUN, 429),
)

# Numbers of the server and of its connector, which has repeated by itself what is worth repeating at once.
_SNOWFLAKE = (
    Published(
        "604",
        LATER,
        "somebody cancelled the query, or it took longer than sources.snowflake.network_timeout_seconds: "
        + _RERUN,
    ),
    Published(
        "606", REFUSED, "grant USAGE on the warehouse that the secret {secret} names, or correct its name"
    ),
    Published("625", LATER, "too many wait for the same lock: " + _RERUN),
    Published("630", LATER, "the query ran into the timeout of statement or warehouse: " + _RERUN),
    Published("1003", REFUSED, _OWN_FAULT),
    Published(
        "2003", REFUSED, "check sources.snowflake.table, and grant the role USAGE on database and schema"
    ),
    Published(
        "3001", RIGHTS, "grant the role SELECT on the table and USAGE on what it is in" + _ADMINISTRATOR
    ),
    Published("250001", LATER, _RERUN),
    Published("250002", LATER, _RERUN),
    Published("250003", LATER, _RERUN),
    Published("250005", LATER, _RERUN),
    Published("250007", LATER, _RERUN),
    Published("251005", SECRET, "put a username into the secret {secret}: it has none"),
    Published("251006", SECRET, "put what signs the user in into the secret {secret}: it has nothing"),
    Published("251011", LATER, _RERUN),
    Published("251012", LATER, _RERUN),
    Published("252010", LATER, _RERUN),
    Published("290403", RIGHTS, "let this address in: network policy, private link" + _ADMINISTRATOR),
    Published(
        "290404", SECRET, "put the account's identifier into the secret {secret}: there is none of this name"
    ),
    Published("390100", SECRET, "put working credentials of the user into the secret {secret}"),
    Published("390102", RIGHTS, "unlock the user, which too many wrong tries have locked"),
    Published("390112", LATER, "the session ended: " + _RERUN),
    Published("390113", LATER, "the session ended: " + _RERUN),
    Published("390114", LATER, "the session ended: " + _RERUN),
    Published("390115", LATER, "the session ended: " + _RERUN),
    Published(
        "390144",
        SECRET,
        "register the public half of the key in the secret {secret} with the user, or put the "
        "right key there; a clock that is minutes off is refused as well",
    ),
    Published("390145", LATER, "the session ended: " + _RERUN),
    Published("390186", RIGHTS, "grant the user its default role" + _ADMINISTRATOR),
    Published("390318", SECRET, "put a new token into the secret {secret}: this one has expired"),
    Published("390422", RIGHTS, "add this address to the network policy of the user" + _ADMINISTRATOR),
)

# What is not here, librdkafka repeats by itself, and another run can.
_KAFKA = (
    Published("_AUTHENTICATION", SECRET, "check the secret {secret}: the brokers do not accept its values"),
    Published(
        "SASL_AUTHENTICATION_FAILED",
        SECRET,
        "check the secret {secret}: the brokers do not accept its api_key and api_secret",
    ),
    Published(
        "TOPIC_AUTHORIZATION_FAILED", RIGHTS, "let the key read and describe the topic" + _ADMINISTRATOR
    ),
    Published(
        "GROUP_AUTHORIZATION_FAILED",
        RIGHTS,
        "let the key read the group that the secret {secret} names; the key is good",
    ),
    Published("CLUSTER_AUTHORIZATION_FAILED", RIGHTS, "let the key describe the cluster" + _ADMINISTRATOR),
    Published("UNKNOWN_TOPIC_OR_PART", REFUSED, "create the topic, or correct sources.kafka.topic"),
    Published("_UNKNOWN_TOPIC", REFUSED, "create the topic, or correct sources.kafka.topic"),
)

SERVICES: dict[str, tuple[Published, ...]] = {
    "hubspot": _HUBSPOT,
    "salesforce": _SALESFORCE,
    "salesforce oauth": _SALESFORCE_OAUTH,
    "snowflake": _SNOWFLAKE,
    "kafka": _KAFKA,
    "ecb": _ECB,
    "http": _HTTP,
}


def find(service: str, *codes: str) -> Published | None:
    """The first of some codes that a service publishes."""
    known = _by_code(service)
    return next((known[code] for code in codes if code in known), None)


@cache
def _by_code(service: str) -> dict[str, Published]:
    return {each.code: each for each in SERVICES[service]}
