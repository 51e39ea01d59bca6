"""Signing in to Snowflake by key pair, token or password: what the connector sends, against a double that checks it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)
from snowflake.connector import errors as sf

from lakehouse import snowflake
from lakehouse.errors import CredentialsError
from lakehouse.secrets import Secret
from lakehouse.snowflake import connection, meaning, read_login
from local.saas import credentials
from local.snowflake import keys
from local.snowflake.admin import Admin
from tests.support import snowflake_double

PLACES = {
    "account": "local",
    "user": "lakehouse",
    "warehouse": "LOAD_WH",
    "database": "SALES",
    "schema": "PUBLIC",
}
TOKEN, PASSWORD = credentials.SNOWFLAKE_TOKEN, credentials.SNOWFLAKE["password"]
KEY, OTHER_KEY = keys.new_key(), keys.new_key()


@pytest.fixture(scope="module")
def port(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    with snowflake_double(tmp_path_factory.mktemp("snowflake")) as number:
        Admin("127.0.0.1", number).credentials(public_key=keys.public_key(KEY))
        yield number


@pytest.fixture
def secret(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """What the secret holds; a test fills it in."""
    held: dict[str, Any] = {}
    monkeypatch.setattr(snowflake, "read_secret", lambda *_: Secret(held))
    return held


def signed_in(port: int) -> list[Any]:
    with (
        connection(
            read_login("a/secret"), host="127.0.0.1", port=port, protocol="http", timeout_seconds=10
        ) as opened,
        opened.cursor() as cursor,
    ):
        return list(cursor.execute("SELECT 1").fetchall())


def encrypted(pem: str, passphrase: str) -> str:
    key = load_pem_private_key(pem.encode(), None)
    how = BestAvailableEncryption(passphrase.encode())
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, how).decode()


def elliptic() -> str:
    key = ec.generate_private_key(ec.SECP256R1())
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()


@pytest.mark.parametrize(
    ("proof", "method"),
    [
        ({"private_key": KEY}, "private_key"),
        ({"private_key": KEY.replace("\n", "\\n")}, "private_key"),
        ({"private_key": encrypted(KEY, "a phrase"), "private_key_passphrase": "a phrase"}, "private_key"),
        ({"private_key": KEY, "token": "not asked for", "password": "not asked for"}, "private_key"),
        ({"token": TOKEN, "password": "not asked for"}, "token"),
        ({"private_key": "", "token": TOKEN}, "token"),
        ({"password": PASSWORD}, "password"),
        ({"user": "", "username": "LakeHouse", "role": "LOADER", "token": TOKEN}, "token"),
    ],
)
def test_a_secret_signs_in_by_the_first_that_it_holds(
    port: int, secret: dict[str, Any], proof: dict[str, Any], method: str
) -> None:
    secret.update(PLACES | proof)

    login = read_login("a/secret")

    assert login.method == method
    assert ("is withdrawing" in (login.note or "")) == (method == "password")
    assert not any(value in repr(login) for value in (TOKEN, PASSWORD, "BEGIN"))
    assert login.options.get("role") == proof.get("role")
    assert signed_in(port) == [(1,)]


@pytest.mark.parametrize(
    ("proof", "code"),
    [
        ({"password": "wrong"}, 390100),
        ({"token": "wrong"}, 394400),
        ({"private_key": OTHER_KEY}, 390144),
        ({"private_key": KEY, "user": "somebody"}, 390144),
        ({"private_key": KEY, "account": "another"}, 390144),
    ],
)
def test_what_does_not_prove_who_it_is_is_refused(
    port: int, secret: dict[str, Any], proof: dict[str, Any], code: int
) -> None:
    secret.update(PLACES | proof)

    with pytest.raises(sf.Error) as refused:
        signed_in(port)
    assert refused.value.errno == code
    assert isinstance(meaning(refused.value, "SALES.PUBLIC.ORDERS", "a/secret"), CredentialsError)


def test_a_key_is_rotated_without_a_run_that_fails(port: int, secret: dict[str, Any]) -> None:
    """As the runbook has it: the second key is registered, the secret written, the first key taken away."""
    admin = Admin("127.0.0.1", port)
    secret.update(PLACES | {"private_key": KEY})
    try:
        admin.credentials(public_key_2=keys.public_key(OTHER_KEY))
        assert signed_in(port) == [(1,)]
        secret["private_key"] = OTHER_KEY
        assert signed_in(port) == [(1,)]
        admin.credentials(public_key="")
        assert signed_in(port) == [(1,)]
        secret["private_key"] = KEY
        with pytest.raises(sf.DatabaseError):
            signed_in(port)
    finally:
        admin.credentials(public_key=keys.public_key(KEY), public_key_2="")


@pytest.mark.parametrize(
    ("held", "said"),
    [
        ({}, "expected user and one of private_key, token, password"),
        (
            {"private_key": "", "token": ""},
            "received account, database, schema, user, warehouse, expected user",
        ),
        ({"user": "", "token": "wrong-value"}, "expected user and one of"),
        ({"private_key": "wrong-value"}, "text that is no PEM key"),
        ({"private_key": keys.public_key(KEY)}, "text that is no PEM key"),
        ({"private_key": keys.new_key(1024)}, "a key of 1024 bits"),
        ({"private_key": elliptic()}, "a key of another kind"),
        ({"private_key": encrypted(KEY, "x")}, "an encrypted key without its passphrase"),
        (
            {"private_key": encrypted(KEY, "x"), "private_key_passphrase": "wrong-value"},
            "or another passphrase",
        ),
        (
            {"private_key": KEY, "private_key_passphrase": "wrong-value"},
            "a passphrase for a key that has none",
        ),
    ],
)
def test_a_secret_that_cannot_sign_in_says_why_and_shows_nothing(
    secret: dict[str, Any], held: dict[str, str], said: str
) -> None:
    secret.update(PLACES | held)

    with pytest.raises(CredentialsError) as refused:
        read_login("a/secret")

    told = f"{refused.value} {refused.value.hint} {refused.value.__cause__}"
    assert said in told
    assert "wrong-value" not in told
    assert "BEGIN" not in told


def test_the_local_key_is_made_once_and_is_nobody_elses_to_read(tmp_path: Path) -> None:
    first = keys.private_key(tmp_path)

    assert keys.private_key(tmp_path) == first
    (file,) = (tmp_path / "snowflake").iterdir()
    assert file.stat().st_mode & 0o077 == 0


def test_no_setting_of_an_account_changes_what_sql_means(
    port: int, secret: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    secret.update(PLACES, password=PASSWORD)
    given: dict[str, Any] = {}
    real = snowflake.connector.connect

    def connect(**options: Any) -> Any:
        given.update(options["session_parameters"])
        return real(**options)

    monkeypatch.setattr(snowflake.connector, "connect", connect)
    signed_in(port)
    wanted = {"TIMEZONE": "UTC", "DATE_INPUT_FORMAT": "AUTO", "TIMESTAMP_INPUT_FORMAT": "AUTO"}
    assert {**given, **wanted, "QUOTED_IDENTIFIERS_IGNORE_CASE": False} == given
