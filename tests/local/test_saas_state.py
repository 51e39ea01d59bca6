"""What the doubles keep: data survive a restart, a file counts once."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import requests

from local import bootstrap
from local.saas import credentials
from local.saas.admin import Admin
from local.saas.server import Doubles, start
from local.stack import Stack
from tests.local import real_clients

ROW = {"id": "1", "createdate": "2026-10-01T00:00:00.000Z", "lastmodifieddate": "2026-10-01T00:00:00.000Z"}


def run(state: Path) -> tuple[Doubles, Admin]:
    doubles = start(state)
    return doubles, Admin(doubles.url("ecb"))


def test_data_and_settings_survive_a_restart(tmp_path: Path) -> None:
    doubles, admin = run(tmp_path)
    admin.load("hubspot", "contacts", [ROW, ROW | {"id": "2"}], [{"sha256": "abc", "name": "contacts.csv"}])
    admin.upsert("hubspot", "contacts", {"id": "2", "company": "Über"})
    admin.delete("hubspot", "contacts", "1", purge=True)
    admin.credentials("hubspot", {"token": "renewed"})
    doubles.stop()
    doubles, admin = run(tmp_path)
    try:
        assert admin.loaded("hubspot", "contacts") == {"abc": "contacts.csv"}
        contacts = real_clients.hubspot(doubles.url("hubspot"), token="renewed")
        (found,) = contacts.basic_api.get_page(properties=["company"]).results
        assert (found.id, found.properties["company"]) == ("2", "Über")
    finally:
        doubles.stop()


def test_the_process_serves_three_ports_and_survives_a_kill(tmp_path: Path) -> None:
    def begin() -> tuple[subprocess.Popen[str], dict[str, str]]:
        command = [sys.executable, "-m", "local.saas.server", "--state", str(tmp_path)]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        assert process.stdout is not None
        return process, dict(process.stdout.readline().strip().split(" on ") for _ in range(3))

    process, urls = begin()
    try:
        assert set(urls) == {"hubspot", "salesforce", "ecb"}
        Admin(urls["salesforce"]).load("hubspot", "contacts", [ROW])
    finally:
        process.kill()
        process.wait()
    process, urls = begin()
    try:
        assert Admin(urls["hubspot"]).state()["hubspot.contacts"] == 1
        assert requests.get(f"{urls['hubspot']}/crm/v3/objects/contacts").status_code == 401
        process.send_signal(signal.SIGTERM)
        assert process.wait(10) == 0
    finally:
        process.kill()
        process.wait()


def test_the_stack_hands_out_what_the_doubles_accept(tmp_path: Path) -> None:
    secrets = bootstrap.secrets(Stack(tmp_path, {}, {}))
    for source, accepted in (
        ("hubspot", credentials.HUBSPOT),
        ("salesforce", credentials.SALESFORCE),
        ("snowflake", {k: v for k, v in credentials.SNOWFLAKE.items() if k != "password"}),
    ):
        given = secrets[f"lakehouse/{source}/credentials"]
        assert {name: given.get(name) for name in accepted} == accepted, source
