"""The page in a real browser: on a screen and a phone, light and dark, by keyboard, hostile names, a million results.

`make proofs ARGS="tests/services/dq_dashboard/test_browser.py -s"` prints how long the first page takes.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.error import URLError

import pytest

from dq_runner.report import LATEST
from local import dq_dashboard
from tests.services.dq_dashboard import browser
from tests.services.dq_dashboard.browser import Tab, chromium
from tests.services.dq_dashboard.support import failed, history_key, report, row, rule, verdict_object
from tests.services.dq_dashboard.test_rules_of_the_page import HOSTILE
from tests.support import Aws, free_port

pytestmark = [
    pytest.mark.proof,
    pytest.mark.skipif(
        browser.program() is None, reason="there is no Chromium: nothing of the page was looked at"
    ),
]
NOW = datetime.now(UTC)
SHOWN = "!!document.querySelector('[data-testid=stMetricValue]')"
DONE = "!!document.body && document.body.innerText.includes('One test in detail')"


@contextmanager
def served(aws: Aws, bucket: str, folder: Path) -> Iterator[str]:
    """The page of a bucket, as `make dq-dashboard` serves it; its URL."""
    port = free_port()
    env = os.environ | aws.env | {"S3_DQ_REPORTS_BUCKET": bucket, "LAKE_BUCKET": bucket}
    with (folder / f"page-{port}.log").open("w") as log:
        process = subprocess.Popen(dq_dashboard.argv(port), env=env, stdout=log, stderr=log)
    url = f"http://127.0.0.1:{port}"
    try:
        _healthy(url + dq_dashboard.HEALTH_PATH)
        yield url
    finally:
        process.terminate()
        process.wait(timeout=30)


def _healthy(url: str) -> None:
    import time

    for _ in range(600):
        try:
            urllib.request.urlopen(url, timeout=2).close()
            return
        except (URLError, OSError):
            time.sleep(0.1)
    raise AssertionError(f"{url} never answered")


@pytest.fixture(scope="module")
def page(aws: Aws, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A page whose report and verdicts have every hostile name in every field."""
    bucket, s3 = "dashboard-browser", aws.client("s3")
    s3.create_bucket(Bucket=bucket, CreateBucketConfiguration={"LocationConstraint": aws.env["AWS_REGION"]})
    texts = ["schema", "table", "column", "rule", "observed", "expected", "message", "owner", "fix", "sql"]
    names = [name for name in HOSTILE if name.isprintable()]
    rows = [failed(1, **dict.fromkeys(texts, name), severity="critical") for name in names]
    for at in (NOW - timedelta(days=1, minutes=30), NOW - timedelta(minutes=30)):
        of = report([*rows, *(row(number) for number in range(40))], at, notes=tuple(names))
        key, body = verdict_object(
            "silver.orders", at, [rule(name, passed=False, observed=name) for name in names]
        )
        for name, content in ((LATEST, of.to_json()), (history_key(of), of.to_json()), (key, body)):
            s3.put_object(Bucket=bucket, Key=name, Body=content)
    with served(aws, bucket, tmp_path_factory.mktemp("page")) as url:
        yield url


@pytest.fixture(scope="module")
def tab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Tab]:
    with chromium(tmp_path_factory.mktemp("browser")) as found:
        yield found


@pytest.mark.parametrize("view", ["Results", "Tables", "Trend", "Compare+runs"])
@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [390, 1400])
def test_it_is_readable_on_a_phone_and_on_a_screen(
    page: str, tab: Tab, width: int, scheme: str, view: str
) -> None:
    worst = f"lakehouse · silver.orders · {HOSTILE[8]}"
    tab.open(f"{page}/?view={view}&test={urllib.request.quote(worst)}", width=width, scheme=scheme)
    tab.wait(SHOWN)
    tab.wait("!document.querySelector('[data-testid=stStatusWidget]')")
    for part in ("document.documentElement", "document.querySelector('[data-testid=stMain]')"):
        assert tab.value(f"{part}.scrollWidth") <= width
    back = tab.value("getComputedStyle(document.querySelector('[data-testid=stApp]')).backgroundColor")
    assert back == {"light": "rgb(255, 255, 255)", "dark": "rgb(17, 22, 29)"}[scheme]
    assert not tab.value("document.querySelectorAll('.stException, a[href^=javascript], main script').length")


def test_hostile_names_are_texts(page: str, tab: Tab) -> None:
    test = f'snowflake · SHOP."{HOSTILE[8]}"."{HOSTILE[8]}" · {HOSTILE[8]}'
    tab.open(f"{page}/?test={urllib.request.quote(test)}&status=failed")
    tab.wait(f"document.body.innerText.includes({json.dumps('Rule: ' + HOSTILE[8])})")
    assert not tab.value(
        "document.querySelectorAll('[data-testid=stText] :is(strong, em, a, img, .katex)').length"
    )
    tab.open_list("Table")
    assert not tab.value(
        "document.querySelectorAll('[role=listbox] :is(strong, em, a, .katex, script)').length"
    )


def test_what_a_screen_reader_hears(page: str, tab: Tab) -> None:
    tab.open(f"{page}/?status=failed")
    tab.wait(DONE)
    tab.wait("document.querySelectorAll('canvas table[role=grid]').length > 1")
    nodes = tab.call("Accessibility.getFullAXTree")["nodes"]
    heard = {
        (node["role"]["value"], node.get("name", {}).get("value", ""))
        for node in nodes
        if not node["ignored"]
    }
    assert {role for role, _ in heard} >= {"main", "banner", "tablist", "grid"}
    for wanted in (
        ("heading", "Data quality"),
        ("heading", "New since the day before"),
        ("heading", "All results"),
        ("region", "All results, what is broken first"),
        ("tab", "Compare runs"),
        ("button", "Download CSV"),
        *(("combobox", name) for name in ("Source", "Status", "Severity", "Table", "Rule", "Test")),
    ):
        assert wanted in heard, wanted
    assert tab.value("document.querySelectorAll('h1').length") == 1
    assert tab.value("document.documentElement.lang") == "en"


def test_everything_is_reached_by_keyboard(page: str, tab: Tab) -> None:
    tab.open(page)
    tab.wait(DONE)
    heard = ""
    for _ in range(80):
        tab.press("Tab")
        heard += tab.value(
            "(e => `${e.getAttribute('aria-label') || e.innerText}\\n`)(document.activeElement)"
        )
    assert heard.startswith("Skip to main content")
    for wanted in (
        "Day",
        "How health is computed",
        "Filters",
        "Results",
        "Download CSV",
        "Download JSON",
        "Test",
    ):
        assert wanted in heard, heard


def test_a_choice_goes_into_the_url_and_comes_back_from_it(page: str, tab: Tab) -> None:
    tab.open(f"{page}/?severity=warning")
    tab.wait(DONE)
    tab.open_list("Source")
    tab.press("Enter")
    tab.wait("location.search.includes('source=lakehouse') && location.search.includes('severity=warning')")
    tab.wait("document.body.innerText.includes('No test fits the filters')")
    link = tab.value("location.href")
    tab.open("about:blank")
    tab.open(link)
    tab.wait("document.body.innerText.includes('No test fits the filters')")


def _many(path: Path, number: int, at: datetime) -> str:
    """A report of so many results, a fiftieth of them broken; the key of its history."""
    base = report([failed(number) for number in range(300)], at)
    content = json.loads(base.to_json())
    bad = number // 50
    content["summary"]["results"] = number
    content["summary"]["counts"] |= {"failed": bad, "passed": number - bad}
    content["results"] = []
    lines = [each.model_dump_json(by_alias=True) for each in (failed(424242), row(424242))]
    with path.open("w") as out:
        out.write(json.dumps(content)[: json.dumps(content).index('"results": []') + len('"results": [')])
        for place in range(number):
            line = lines[place >= bad].replace("T424242", f"T{place % 3000}")
            out.write(
                ("," if place else "") + line.replace("range(AMOUNT)", f"range(AMOUNT_{place // 3000})")
            )
        out.write("]}")
    return history_key(base)


@pytest.mark.parametrize("number", [10, 10_000, 1_000_000])
def test_how_long_the_first_page_takes(aws: Aws, tmp_path: Path, number: int) -> None:
    """A fresh server and a fresh browser; then a second reader."""
    bucket, s3, file = f"dashboard-{number}", aws.client("s3"), tmp_path / "report.json"
    s3.create_bucket(Bucket=bucket, CreateBucketConfiguration={"LocationConstraint": aws.env["AWS_REGION"]})
    for at in (NOW - timedelta(days=1, minutes=30), NOW - timedelta(minutes=30)):
        s3.upload_file(str(file), bucket, _many(file, number, at))
    s3.upload_file(str(file), bucket, LATEST)
    took: list[Any] = [f"{number:,} results, {file.stat().st_size / 1e6:,.1f} MB"]
    with served(aws, bucket, tmp_path) as url, chromium(tmp_path / "browser") as tab:
        for reader in ("first", "second"):
            tab.call("Page.navigate", url=url)
            took += [
                f"{reader} reader: health {tab.wait(SHOWN):.1f} s, all of it {tab.wait(DONE):.1f} s later"
            ]
            if number == 1_000_000:
                tab.wait("document.body.innerText.includes('of 1,000,000 results are shown')")
            tab.call("Page.navigate", url="about:blank")
    print(*took, sep="; ", file=sys.stderr)
    file.unlink()
