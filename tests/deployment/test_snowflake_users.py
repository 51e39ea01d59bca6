"""The commands by which Snowflake's users get their keys, and what the DQ platform's user is granted."""

from __future__ import annotations

import base64
import hashlib
import json
import re
import subprocess
from collections.abc import Mapping
from pathlib import Path

import pytest
import sqlglot
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_der_private_key,
    load_pem_public_key,
)
from sqlglot import exp

from lakehouse import snowflake
from lakehouse.secrets import Secret
from local.snowflake import keys
from tests.support import REPO

RUNBOOK = (REPO / "RUNBOOK_AWS_2025.md").read_text()
GRANTS = (REPO / "snowflake" / "dq_platform" / "grants.sql").read_text()


def block(heading: str) -> str:
    """The commands of a section that make a key."""
    section = RUNBOOK.split(f"### {heading}")[1].split("\n##")[0]
    (found,) = [one for one in re.findall(r"```bash\n(.*?)```", section, re.DOTALL) if "openssl" in one]
    return found


def read(monkeypatch: pytest.MonkeyPatch, held: Mapping[str, str]) -> snowflake.Login:
    monkeypatch.setattr(snowflake, "read_secret", lambda *_: Secret(held))
    return snowflake.read_login("a secret")


@pytest.mark.parametrize("heading", ["2.4 Snowflake user", "2.5 Snowflake user of the DQ platform"])
def test_the_commands_make_a_key_pair_and_a_secret_that_signs_in(
    heading: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", block(heading)], cwd=tmp_path, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    (document,) = tmp_path.glob("*.json")
    held = json.loads(document.read_text())
    login = read(monkeypatch, held)
    assert (login.method, login.options["user"]) == ("private_key", held.get("user") or held["username"])
    assert "ENCRYPTED" in held["private_key"]
    # What is registered with the user, and the fingerprint that DESC USER shows of it.
    (public,) = tmp_path.glob("*.pub")
    registered, fingerprint = done.stdout.splitlines()
    assert registered == "".join(public.read_text().splitlines()[1:-1])
    key = load_pem_public_key(public.read_bytes())
    der = key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    assert fingerprint == base64.b64encode(hashlib.sha256(der).digest()).decode()
    assert keys.public_key(private(login)) == public.read_text()
    # Nobody else of the machine can read them.
    assert [path.name for path in tmp_path.iterdir() if path.stat().st_mode & 0o077] == []


def private(login: snowflake.Login) -> str:
    """The key as the connector is given it, as PEM text."""
    key = load_der_private_key(login.options["private_key"], None)
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()


def statements() -> list[str]:
    return [" ".join(one.split()) for one in re.sub(r"--.*", "", GRANTS).split(";") if one.strip()]


def test_the_role_may_look_and_read_and_nothing_else() -> None:
    granted = [one for one in statements() if one.startswith("GRANT")]
    to_role = [re.fullmatch(r"GRANT (\w+) ON (.+) TO ROLE DQ_PLATFORM", one) for one in granted]
    assert granted[0] == "GRANT ROLE DQ_PLATFORM TO USER DQ_PLATFORM"
    assert all(to_role[1:])
    privileges = {(found[1], found[2].split(" IN DATABASE ")[0]) for found in to_role if found}
    assert privileges == {
        *(
            ("USAGE", f"{what}")
            for what in ("WAREHOUSE DQ_PLATFORM", "DATABASE SALES", "ALL SCHEMAS", "FUTURE SCHEMAS")
        ),
        *(("SELECT", what) for what in ("ALL TABLES", "FUTURE TABLES", "ALL VIEWS", "FUTURE VIEWS")),
    }


def test_the_user_is_a_service_behind_a_network_policy_with_a_warehouse_and_a_quota_of_its_own() -> None:
    text = "\n".join(statements())
    assert "CREATE USER IF NOT EXISTS DQ_PLATFORM TYPE = SERVICE" in text
    assert "PASSWORD" not in text
    assert "ALTER USER DQ_PLATFORM SET NETWORK_POLICY = DQ_PLATFORM" in text
    assert "ALTER WAREHOUSE DQ_PLATFORM SET RESOURCE_MONITOR = DQ_PLATFORM" in text
    # Each may be repeated.
    created = [one for one in statements() if one.startswith("CREATE")]
    assert len(created) == 5
    assert [one for one in created if " IF NOT EXISTS " not in one] == []


def test_every_statement_is_one_that_snowflakes_grammar_has() -> None:
    """As far as sqlglot knows it: GRANT, USE and CREATE WAREHOUSE as such, the rest by its first words."""
    parsed = sqlglot.parse(GRANTS, dialect="snowflake")
    assert len(parsed) == len(statements())
    assert {type(one) for one in parsed} <= {exp.Use, exp.Grant, exp.Create, exp.Command}
    first = {" ".join(one.split()[:2]) for one in statements() if not one.startswith("GRANT")}
    assert first == {
        *("USE ROLE", "CREATE ROLE", "CREATE USER", "CREATE WAREHOUSE", "CREATE NETWORK", "CREATE RESOURCE"),
        *("ALTER USER", "ALTER WAREHOUSE"),
    }
