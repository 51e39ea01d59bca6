"""Serves the page: `python services/dq_dashboard/serve.py`, with any option of `streamlit run` behind it.

What the page imports is loaded before anybody is served; by `streamlit run` alone the first reader waits for it.
"""

from __future__ import annotations

import sys
from importlib import import_module
from pathlib import Path

REPO = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(REPO / "services"), str(REPO / "src")]

from streamlit.web import cli  # noqa: E402

#: The parts of the page, and what Streamlit makes and sends tables by.
LOADED = ("dq_dashboard.show", "pandas", "pyarrow")
PAGE = Path(__file__).with_name("dq_dashboard.py")


def main() -> None:
    """Becomes the server of Streamlit, with its options and its exit code."""
    for name in LOADED:
        import_module(name)
    sys.argv = ["streamlit", "run", str(PAGE), *sys.argv[1:]]
    cli.main()


if __name__ == "__main__":
    main()
