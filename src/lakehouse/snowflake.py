"""The one way into Snowflake: signing in with what a secret holds, whoever asks.

The secret has ``account``, ``user`` (or ``username``), ``warehouse`` and one of

- ``private_key``: of the user's key pair, RSA of 2,048 bits or more, as the PEM text of PKCS#8, with
  ``private_key_passphrase`` where it is encrypted;
- ``token``: a programmatic access token;
- ``password``, which Snowflake is withdrawing.

Where it has several, the first of them signs in. ``role``, ``database`` and ``schema`` are taken where it has them.
(Snowflake documentation: key-pair authentication; programmatic access tokens; planning for the deprecation of
single-factor password sign-ins.)
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Literal

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)
from snowflake import connector
from snowflake.connector import errors as sf

from lakehouse.errors import CredentialsError, LakehouseError, SourceError, SourceUnavailable
from lakehouse.masks import masked, short
from lakehouse.published import Means, find
from lakehouse.secrets import Secret, read_secret

Method = Literal["private_key", "token", "password"]
METHODS: tuple[Method, ...] = ("private_key", "token", "password")
_LEAST_BITS = 2_048
_SIGN_IN_SECONDS = 120
_MAKE = "the runbook (2.4) says how a key pair or a token is made"


@dataclass(frozen=True)
class Login:
    """How a secret signs in: ``options`` are the connector's, and are not shown."""

    secret: str
    method: Method
    options: Mapping[str, Any] = field(repr=False)

    @property
    def note(self) -> str | None:
        """What is worth saying about it."""
        if self.method != "password":
            return None
        return (
            f"snowflake: signed in by password, which Snowflake is withdrawing: put a private_key or a token into the "
            f"secret {self.secret}"
        )


def read_login(secret: str, also: Iterable[str] = ()) -> Login:
    """How to sign in by a secret, which has the fields ``also``, too.

    Raises CredentialsError where a field is missing or the key is none, SourceUnavailable where Secrets Manager does
    not answer.
    """
    found = read_secret(secret, ("account", "warehouse", *also), f", user and one of {', '.join(METHODS)}")
    user = found.get("user") or found.get("username")
    method = next((name for name in METHODS if found.get(name)), None)
    if user is None or method is None:
        received = ", ".join(sorted(name for name, value in found.items() if value))
        raise CredentialsError(
            f"secret {secret}: received {received}, expected user and one of {', '.join(METHODS)}",
            hint=f"a user of TYPE=SERVICE signs in by private_key or token; {_MAKE}",
        )
    places = {
        name: found[name]
        for name in ("account", "warehouse", "role", "database", "schema")
        if found.get(name)
    }
    return Login(secret, method, {"user": user, **places, **_proof(secret, method, found)})


@contextmanager
def connection(
    login: Login,
    *,
    host: str | None = None,
    port: int | None = None,
    protocol: str = "https",
    timeout_seconds: int = 120,
    tag: str = "lakehouse",
) -> Iterator[Any]:
    """A session in UTC, closed at the end. ``host``, ``port`` and ``protocol`` lead to a local double.

    ``timeout_seconds``: after which the connector gives a request up, and cancels a query that has no limit of its own.

    Raises the connector's errors, of which ``meaning`` makes ours. Credentials that are refused are tried once.
    """
    place = {name: value for name, value in {"host": host, "port": port}.items() if value}
    opened = connector.connect(
        **login.options,
        **place,
        protocol=protocol,
        login_timeout=min(timeout_seconds, _SIGN_IN_SECONDS),
        network_timeout=timeout_seconds,
        arrow_number_to_decimal=True,
        application="lakehouse",
        session_parameters={
            "TIMEZONE": "UTC",
            # An account may set others by which times in our SQL would be misread, and names in quotes folded.
            "DATE_INPUT_FORMAT": "AUTO",
            "TIMESTAMP_INPUT_FORMAT": "AUTO",
            "QUOTED_IDENTIFIERS_IGNORE_CASE": False,
            "CLIENT_OUT_OF_BAND_TELEMETRY_ENABLED": False,
            "QUERY_TAG": tag,
        },
    )
    try:
        yield opened
    finally:
        opened.close()


# Errors without a number that is published; server codes from 390000 to 394999 speak of logins.
_HTTP_WEATHER = (
    sf.OperationalError,
    sf.InternalServerError,
    sf.ServiceUnavailableError,
    sf.GatewayTimeoutError,
    sf.RequestTimeoutError,
    sf.BadGatewayError,
    sf.TooManyRequests,
    sf.OtherHTTPRetryableError,
    sf.RequestExceedMaxRetryError,
    sf.HttpError,
    sf.InterfaceError,
)


def meaning(error: sf.Error, where: str, secret: str) -> LakehouseError:
    """What an error of the connector means for us. The connector has already repeated what is worth repeating."""
    text = f"Snowflake {where}: received {type(error).__name__} {error.errno} ({error.sqlstate})"
    detail = masked(short(error.raw_msg or "", 300))
    if (known := find("snowflake", str(error.errno))) is not None:
        return known.error(f"{text}: {detail}" if known.means is Means.REFUSED else text, secret=secret)
    is_login = 390_000 <= error.errno < 395_000
    if is_login or isinstance(error, sf.ForbiddenError):
        return CredentialsError(
            f"{text}, expected the sign-in to succeed",
            hint=f"check account, user and private_key, token or password in the secret {secret}: a key has to be "
            "registered with the user, a token not expired; then the user's role and network policy",
        )
    if isinstance(error, _HTTP_WEATHER):
        return SourceUnavailable(
            f"{text}, expected an answer", hint="run the task again later; nothing was landed"
        )
    return SourceError(
        f"{text}: {detail}", hint="check sources.snowflake.table, the warehouse and the role's grants"
    )


def _proof(secret: str, method: Method, found: Secret) -> dict[str, Any]:
    if method == "private_key":
        key = _private_key(secret, found["private_key"], found.get("private_key_passphrase"))
        return {"authenticator": "SNOWFLAKE_JWT", "private_key": key}
    if method == "token":
        return {"authenticator": "PROGRAMMATIC_ACCESS_TOKEN", "token": found["token"]}
    return {"password": found["password"]}


def _private_key(secret: str, text: str, passphrase: str | None) -> bytes:
    """The key as the connector takes it. No word of it, or of why it cannot be read, reaches a message."""
    refused: str | None = None
    key: Any = None
    try:
        # Line breaks may come escaped twice, by JSON and by whoever pasted the key.
        body = text.replace("\\n", "\n").strip().encode()
        key = load_pem_private_key(body, passphrase.encode() if passphrase else None)
    except TypeError:
        refused = (
            "a passphrase for a key that has none"
            if passphrase
            else "an encrypted key without its passphrase"
        )
    except (ValueError, UnsupportedAlgorithm):
        refused = (
            "text that is no PEM key, or another passphrase" if passphrase else "text that is no PEM key"
        )
    if refused is None and not isinstance(key, RSAPrivateKey):
        refused = "a key of another kind"
    if refused is None and key.key_size < _LEAST_BITS:
        refused = f"a key of {key.key_size} bits"
    if refused is not None:
        raise CredentialsError(
            f"secret {secret}, private_key: received {refused}, expected an RSA key of {_LEAST_BITS} bits or more as "
            "the PEM text of PKCS#8, with private_key_passphrase where it is encrypted",
            hint=_MAKE,
        )
    return bytes(key.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption()))
