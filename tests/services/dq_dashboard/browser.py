"""A real Chromium without a window, spoken to by its own protocol (CDP)."""

from __future__ import annotations

import itertools
import json
import shutil
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from websockets.sync.client import ClientConnection, connect

#: Longer than any page takes, also on a busy machine.
PATIENCE = 60.0


def program() -> str | None:
    """Where this machine has it; None where it has none."""
    return next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)


class Tab:
    """One page. Scripts are expressions, whose value comes back."""

    def __init__(self, socket: ClientConnection) -> None:
        self._socket = socket
        self._ids = itertools.count(1)
        self.call("Emulation.setFocusEmulationEnabled", enabled=True)

    def call(self, method: str, **params: Any) -> Any:
        number = next(self._ids)
        self._socket.send(json.dumps({"id": number, "method": method, "params": params}))
        while True:
            answer = json.loads(self._socket.recv(timeout=PATIENCE))
            if answer.get("id") == number:
                assert "error" not in answer, answer
                return answer["result"]

    def value(self, script: str) -> Any:
        found = self.call("Runtime.evaluate", expression=script, returnByValue=True)
        assert "exceptionDetails" not in found, found
        return found["result"].get("value")

    def wait(self, script: str) -> float:
        """Until it is true; the seconds that took."""
        begun = time.monotonic()
        while not self.value(script):
            assert time.monotonic() - begun < PATIENCE, (
                f"{script} never came:\n{self.value('document.body.innerText')}"
            )
            time.sleep(0.05)
        return time.monotonic() - begun

    def open(self, url: str, *, width: int = 1400, scheme: str = "light") -> None:
        mobile = width < 700
        self.call(
            "Emulation.setDeviceMetricsOverride", width=width, height=900, deviceScaleFactor=1, mobile=mobile
        )
        self.call("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])
        self.call("Page.navigate", url=url)
        self.wait("document.readyState === 'complete'")

    def open_list(self, label: str) -> None:
        """The choices of the combobox of this label, by keyboard."""
        box = f"document.querySelector('input[aria-label={label}]')"
        self.wait(f"!!{box}")
        for _ in range(20):  # a page that is still being drawn closes it again
            self.value(f"{box}.focus()")
            self.press("ArrowDown")
            time.sleep(0.5)
            if self.value("document.querySelectorAll('[role=option]').length > 0"):
                return
        raise AssertionError(f"{label} never opened:\n{self.value('document.body.innerText')}")

    def press(self, key: str) -> None:
        codes = {"Tab": 9, "Enter": 13, "ArrowDown": 40}
        for kind in ("rawKeyDown", "keyUp"):
            self.call(
                "Input.dispatchKeyEvent", type=kind, key=key, code=key, windowsVirtualKeyCode=codes[key]
            )

    def type(self, text: str) -> None:
        self.call("Input.insertText", text=text)


@contextmanager
def chromium(folder: Path) -> Iterator[Tab]:
    """A browser with one page, for as long as the block lasts; ``folder`` takes its profile."""
    name = program()
    assert name is not None
    argv = [name, "--headless=new", "--no-sandbox", "--disable-gpu", "--remote-debugging-port=0"]
    process = subprocess.Popen(
        [*argv, f"--user-data-dir={folder}", "about:blank"],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        with connect(_target(folder / "DevToolsActivePort"), max_size=None) as socket:
            yield Tab(socket)
    finally:
        process.terminate()
        process.wait(timeout=30)


def _target(file: Path) -> str:
    end = time.monotonic() + PATIENCE
    while not (file.exists() and file.read_text().count("\n")):
        assert time.monotonic() < end, "the browser did not start"
        time.sleep(0.1)
    port = file.read_text().splitlines()[0]
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/json") as answer:
        pages = [one for one in json.load(answer) if one["type"] == "page"]
    return str(pages[0]["webSocketDebuggerUrl"])
