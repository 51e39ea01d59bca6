"""Jars are looked up by their coordinates; what could not be asked, or is accepted no longer, does not pass."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date
from typing import Any

import pytest

from scripts import audit_jars
from scripts.audit_jars import Finding, NotAsked, findings, judged

KAFKA = "pkg:maven/org.apache.kafka/kafka-clients@3.9.1"
OTHER = "pkg:maven/org.yaml/snakeyaml@2.4"
TODAY = date(2026, 11, 28)


def test_every_jar_of_the_manifest_is_asked_for_once() -> None:
    found = audit_jars.packages()
    assert len(found) == len(set(found)) > 70
    assert [one for one in found if "/kafka-clients@3." in one] == [KAFKA.replace("3.9.1", "3.9.2")]
    assert not any("None" in one for one in found)


def test_every_page_of_every_package_is_read() -> None:
    asked: list[Mapping[str, Any]] = []

    def osv(body: Mapping[str, Any]) -> dict[str, Any]:
        asked.append(body)
        if len(asked) == 1:
            return {"results": [{"vulns": [{"id": "GHSA-1"}], "next_page_token": "t"}, {}]}
        return {"results": [{"vulns": [{"id": "GHSA-2"}, {"id": "GHSA-1"}]}]}

    assert findings([KAFKA, OTHER], osv) == [Finding(KAFKA, "GHSA-1"), Finding(KAFKA, "GHSA-2")]
    assert asked[1] == {"queries": [{"package": {"purl": KAFKA}, "page_token": "t"}]}


@pytest.mark.parametrize("answer", [{}, {"results": []}, {"results": None}, {"results": [{}]}])
def test_a_package_that_was_not_answered_for_has_not_passed(answer: dict[str, Any]) -> None:
    with pytest.raises(NotAsked, match="asked for 2 packages"):
        findings([KAFKA, OTHER], lambda _: answer)


def test_where_nobody_answers_nothing_has_passed(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(audit_jars, "HOST", "127.0.0.1:9")
    assert audit_jars.main() == 1
    assert "No jar was looked at" in capsys.readouterr().err


def test_a_finding_counts_unless_it_is_accepted_with_an_end() -> None:
    found = [Finding(KAFKA, "GHSA-1")]
    line = {"package": KAFKA, "id": "GHSA-1", "why": "the producer is not used", "until": "2026-12-31"}
    assert judged(found, [line], TODAY) == []
    assert "take a revision without it" in judged(found, [], TODAY)[0]
    assert (
        "accepted until 2026-11-01, look again" in judged(found, [line | {"until": "2026-11-01"}], TODAY)[0]
    )
    assert "no longer found" in judged([], [line], TODAY)[0]
