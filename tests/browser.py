"""A real browser for the tests of pages: headless Chromium over its own protocol, and axe-core where it can be had."""

from __future__ import annotations

import base64
import contextlib
import itertools
import json
import os
import shutil
import subprocess
import tarfile
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

NAMES = ("chromium", "chromium-browser", "google-chrome", "chrome")
AXE_VERSION = "4.14.1"


class Browser:
    """One tab."""

    def __init__(self, socket: Any) -> None:
        self.socket, self.ids, self.errors = socket, itertools.count(1), []

    def call(self, method: str, **params: Any) -> dict[str, Any]:
        """One command of the protocol; script errors that come by are kept."""
        number = next(self.ids)
        self.socket.send(json.dumps({"id": number, "method": method, "params": params}))
        while True:
            message = json.loads(self.socket.recv(timeout=60))
            if message.get("method") == "Runtime.exceptionThrown":
                self.errors.append(str(message["params"]["exceptionDetails"])[:500])
            if message.get("id") == number:
                assert "error" not in message, message
                return message["result"]

    def evaluate(self, script: str) -> Any:
        """Value of a script (a promise's, when it has one)."""
        made = self.call("Runtime.evaluate", expression=script, awaitPromise=True, returnByValue=True)
        assert "exceptionDetails" not in made, made["exceptionDetails"]
        return made["result"].get("value")

    def goto(self, address: str) -> None:
        """Open a page and wait until it is loaded."""
        self.call("Page.navigate", url=address)
        self.wait("document.readyState == 'complete' && location.href != 'about:blank'")

    def wait(self, condition: str, seconds: float = 60.0) -> None:
        """Wait until a script's value is true."""
        until = time.monotonic() + seconds
        while not self.evaluate(f"(() => {{try {{return !!({condition})}} catch {{return false}}}})()"):
            assert time.monotonic() < until, (
                f"never true: {condition}\n{self.evaluate('document.body.innerText')[:2000]}"
            )
            time.sleep(0.1)

    def look(self, *, width: int = 1200, height: int = 900, dark: bool = False) -> None:
        """Size of the window and the reader's wish for dark pages."""
        self.call(
            "Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=width < 600
        )
        wish = [{"name": "prefers-color-scheme", "value": "dark" if dark else "light"}]
        self.call("Emulation.setEmulatedMedia", features=wish)

    def press(self, key: str) -> None:
        """One key, such as Tab or Enter."""
        text = {"Enter": "\r", "Space": " "}.get(key, "")
        code = {"Tab": 9, "Enter": 13, "Space": 32, "ArrowLeft": 37, "ArrowRight": 39}[key]
        name = " " if key == "Space" else key
        for kind in ("keyDown", "keyUp"):
            self.call(
                "Input.dispatchKeyEvent",
                type=kind,
                key=name,
                code=key,
                windowsVirtualKeyCode=code,
                text=text if kind == "keyDown" else "",
            )

    def picture(self, path: Path) -> None:
        """A screenshot."""
        path.write_bytes(base64.b64decode(self.call("Page.captureScreenshot")["data"]))

    def serious(self, axe: str) -> list[str]:
        """axe-core's serious and critical violations, with their elements."""
        self.evaluate(f"{axe}; 0")
        found = self.evaluate("axe.run(document, {resultTypes: ['violations']}).then(r => r.violations)")
        return [
            f"{v['id']}: {v['help']}: {[n['html'][:150] for n in v['nodes']][:4]}"
            for v in found
            if v["impact"] in ("serious", "critical")
        ]


@contextlib.contextmanager
def open_browser() -> Iterator[Browser]:
    """A browser; the test skips, saying so, where there is none."""
    program = next((found for name in NAMES if (found := shutil.which(name))), None)
    if program is None:
        pytest.skip("no Chromium on this machine: pages are not looked at")
    client = pytest.importorskip("websockets.sync.client", reason="the browser's protocol needs websockets")
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as home:
        arguments = [
            "--headless=new",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-dev-shm-usage",
            "--remote-debugging-port=0",
        ]
        process = subprocess.Popen(
            [program, *arguments, f"--user-data-dir={home}", "about:blank"],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        try:
            with client.connect(_tab(Path(home)), max_size=None, compression=None) as socket:
                browser = Browser(socket)
                browser.call("Page.enable")
                browser.call("Runtime.enable")
                yield browser
        finally:
            process.terminate()
            process.wait(20)


def _tab(home: Path) -> str:
    from urllib.error import URLError
    from urllib.request import urlopen

    until = time.monotonic() + 60
    while time.monotonic() < until:
        with contextlib.suppress(OSError, URLError, IndexError, ValueError):
            port = (home / "DevToolsActivePort").read_text().split()[0]
            with urlopen(f"http://127.0.0.1:{port}/json") as answer:
                tabs = [tab for tab in json.load(answer) if tab["type"] == "page"]
                return tabs[0]["webSocketDebuggerUrl"]
        time.sleep(0.2)
    pytest.fail("Chromium did not start within a minute")


def axe_core() -> str:
    """The source of axe-core from its npm package, kept outside the repository; skips where it cannot be had."""
    folder = Path(os.environ.get("STILLHOUSE_TEST_TOOLS", Path(tempfile.gettempdir()) / "stillhouse-test-tools"))
    file = folder / f"axe-{AXE_VERSION}.js"
    if not file.is_file():
        folder.mkdir(parents=True, exist_ok=True)
        npm = shutil.which("npm")
        if npm is None:
            pytest.skip("no npm to fetch axe-core with: accessibility is not checked")
        done = subprocess.run(
            [npm, "pack", f"axe-core@{AXE_VERSION}", "--silent"], cwd=folder, capture_output=True, text=True
        )
        if done.returncode:
            pytest.skip("axe-core cannot be fetched here: accessibility is not checked")
        with tarfile.open(folder / done.stdout.split()[-1]) as package:
            member = package.extractfile("package/axe.min.js")
            assert member
            file.write_bytes(member.read())
    return file.read_text(encoding="utf-8")
