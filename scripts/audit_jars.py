#!/usr/bin/env python3
"""Known vulnerabilities of the jars of emr_configs/jars.xml, asked of OSV (https://osv.dev) by Maven coordinates.

    scripts/audit_jars.py            every jar; exit code 1 for what emr_configs/jars_accepted.json does not accept

What is accepted has its reason there and an end: after it, the finding counts again. A jar that could not be asked for
is a failure, as is a line that accepts what is no longer found.
"""

from __future__ import annotations

import http.client
import json
import sys
import xml.etree.ElementTree as ElementTree
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

REPO = Path(__file__).resolve().parents[1]
MANIFEST = REPO / "emr_configs" / "jars.xml"
#: A line each: id, package, why, until.
ACCEPTED = REPO / "emr_configs" / "jars_accepted.json"
HOST = "api.osv.dev"
TIMEOUT_SECONDS = 30


@dataclass(frozen=True)
class Finding:
    """A vulnerability of a jar, by OSV's id."""

    package: str
    id: str


class NotAsked(Exception):
    """OSV did not answer, or not as it is documented."""


def packages(manifest: Path = MANIFEST) -> list[str]:
    """Every jar once, as pkg:maven/<organisation>/<name>@<revision>."""
    found = ElementTree.parse(manifest).iter("dependency")  # nosec B314  # our own file
    return sorted({f"pkg:maven/{one.get('org')}/{one.get('name')}@{one.get('rev')}" for one in found})


def ask(body: Mapping[str, Any]) -> dict[str, Any]:
    """One call of OSV's querybatch. Raises NotAsked."""
    connection = http.client.HTTPSConnection(HOST, timeout=TIMEOUT_SECONDS)
    try:
        connection.request("POST", "/v1/querybatch", json.dumps(body), {"Content-Type": "application/json"})
        answer = connection.getresponse()
        text = answer.read()
        if answer.status != 200:
            raise NotAsked(f"{HOST} answered {answer.status}")
        found: dict[str, Any] = json.loads(text)
        return found
    except (OSError, http.client.HTTPException, ValueError) as error:
        raise NotAsked(f"{HOST}: {type(error).__name__}: {error}") from None
    finally:
        connection.close()


def findings(of: Sequence[str], asking: Callable[[Mapping[str, Any]], dict[str, Any]] = ask) -> list[Finding]:
    """What OSV knows of these packages, page by page. Raises NotAsked unless each of them was answered for."""
    found: list[Finding] = []
    queries: list[dict[str, Any]] = [{"package": {"purl": one}} for one in of]
    while queries:
        results = asking({"queries": queries}).get("results")
        if not isinstance(results, list) or len(results) != len(queries):
            raise NotAsked(f"{HOST} was asked for {len(queries)} packages and answered otherwise")
        pages = []
        for query, result in zip(queries, results, strict=True):
            package = query["package"]["purl"]
            found += [Finding(package, one["id"]) for one in (result or {}).get("vulns", ())]
            if token := (result or {}).get("next_page_token"):
                pages.append({"package": {"purl": package}, "page_token": token})
        queries = pages
    return sorted(set(found), key=lambda one: (one.package, one.id))


def judged(found: Sequence[Finding], accepted: Sequence[Mapping[str, str]], today: date) -> list[str]:
    """What has to be done, in words; nothing where all is well."""
    until = {Finding(one["package"], one["id"]): date.fromisoformat(one["until"]) for one in accepted}
    words = []
    for one in found:
        told = f"{one.package}: {one.id}, https://osv.dev/vulnerability/{one.id}"
        if one not in until:
            words.append(
                f"{told}: take a revision without it (jars.xml, `make jars-lock`), or accept it with a reason"
            )
        elif until[one] < today:
            words.append(f"{told}: accepted until {until[one]}, look again")
    gone = sorted(f"{one.package}: {one.id}" for one in until.keys() - set(found))
    return words + [
        f"{one} is accepted and no longer found: take the line out of {ACCEPTED.name}" for one in gone
    ]


def main() -> int:
    jars = packages()
    try:
        found = findings(jars)
    except NotAsked as problem:
        print(f"audit_jars: {problem}. No jar was looked at", file=sys.stderr)
        return 1
    problems = judged(found, json.loads(ACCEPTED.read_text(encoding="utf-8")), datetime.now(UTC).date())
    for one in problems:
        print(one, file=sys.stderr)
    print(f"{len(jars)} jars, {len(found)} known vulnerabilities, {len(problems)} to be dealt with")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
