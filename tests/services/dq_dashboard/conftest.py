"""The page without a browser, and without S3 but where a test asks for it."""

from __future__ import annotations

import pytest
import streamlit as st
from streamlit.components.v2 import manifest_scanner
from streamlit.testing.v1 import AppTest

from dq_dashboard import sources
from tests.services.dq_dashboard.support import LAKE, REPORTS, Memory, Page
from tests.support import REPO


@pytest.fixture(autouse=True)
def _nothing_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    """What one test's page read is not another's."""
    st.cache_resource.clear()
    # Each start of a page would look for components in all of the environment's packages, which takes most of its time.
    monkeypatch.setattr(manifest_scanner, "scan_component_manifests", lambda *_, **__: [])
    monkeypatch.setenv("S3_DQ_REPORTS_BUCKET", REPORTS)
    monkeypatch.setenv("LAKE_BUCKET", LAKE)


@pytest.fixture
def memory(monkeypatch: pytest.MonkeyPatch) -> Memory:
    """What the page reads in place of S3."""
    found = Memory()
    monkeypatch.setattr(sources, "storage", lambda: found)
    return found


@pytest.fixture
def page() -> Page:
    """The page as a reader with this link has it."""

    def opened(**query: str | list[str]) -> AppTest:
        app = AppTest.from_file(
            str(REPO / "services" / "dq_dashboard" / "dq_dashboard.py"), default_timeout=60
        )
        for name, value in query.items():
            app.query_params[name] = value
        app.run()
        assert not app.exception
        return app

    return opened
