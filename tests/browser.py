"""A headless Chromium, driven over its pipe (the DevTools protocol), for tests that look at pages.

    with Browser() as browser:
        page = browser.open(path, width=400, dark=True)
        page.run("document.title")
        page.key("ArrowRight"); page.drag((100, 200), (300, 200)); page.picture(Path("page.png"))

Standard library only: what a page does is asked in its own language.
"""

from __future__ import annotations

import base64
import itertools
import json
import os
import select
import shutil
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Any

NAMES = ("chromium", "chromium-browser", "google-chrome", "chrome")
PROGRAM = next((found for name in NAMES if (found := shutil.which(name))), None)
FLAGS = (
    "--headless --no-sandbox --disable-gpu --disable-quic --no-first-run --remote-debugging-pipe"
    " --disable-background-networking --disable-component-update --disable-sync"
    " --disable-dev-shm-usage --hide-scrollbars --force-color-profile=srgb"
).split()
PATIENCE = 60.0  # seconds for an answer
KEYS = {"ArrowRight": 39, "ArrowLeft": 37, "Home": 36, "End": 35, "Escape": 27, "Tab": 9}


class Browser:
    """One process, which ends with the block."""

    def __enter__(self) -> Browser:
        assert PROGRAM is not None
        self._folder = tempfile.mkdtemp(prefix="longseq-browser-")
        to_child, self._to = os.pipe()
        self._from, from_child = os.pipe()
        self._process = subprocess.Popen(
            ["bash", "-c", 'exec 3<&"$1" 4>&"$2"; shift 2; exec "$@"', "bash", str(to_child),
             str(from_child), PROGRAM, *FLAGS, f"--user-data-dir={self._folder}"],
            pass_fds=(to_child, from_child), start_new_session=True,
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        os.close(to_child)
        os.close(from_child)
        self._numbers = itertools.count(1)
        self._read = b""
        self.events: list[dict[str, Any]] = []
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self._to)  # it ends by itself where its pipe does
        os.close(self._from)
        try:
            self._process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            os.killpg(self._process.pid, 9)
            self._process.wait()
        shutil.rmtree(self._folder, ignore_errors=True)

    def ask(self, method: str, session: str = "", **params: Any) -> dict[str, Any]:
        """The answer to a command; what happened meanwhile is in `events`."""
        number = next(self._numbers)
        command = {"id": number, "method": method, "params": params}
        text = json.dumps(command | ({"sessionId": session} if session else {}))
        os.write(self._to, text.encode() + b"\0")
        while True:
            said = self._next()
            if said.get("id") == number:
                assert "error" not in said, said
                return dict(said["result"])
            self.events.append(said)

    def _next(self) -> dict[str, Any]:
        ends = time.monotonic() + PATIENCE
        while b"\0" not in self._read:
            ready = select.select([self._from], [], [], max(0.0, ends - time.monotonic()))[0]
            block = os.read(self._from, 1 << 20) if ready else b""
            assert block, "the browser is silent"
            self._read += block
        line, _, self._read = self._read.partition(b"\0")
        return dict(json.loads(line))

    def open(self, path: Path, width: int = 1200, dark: bool = False, scripts: bool = True) -> Page:
        """A file as a page of its own, loaded."""
        target = self.ask("Target.createTarget", url="about:blank")["targetId"]
        session = self.ask("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        page = Page(self, session)
        page.look(width, dark)
        for domain in ("Page", "Runtime", "Log", "Network"):
            page.ask(f"{domain}.enable")
        page.ask("Emulation.setScriptExecutionDisabled", value=not scripts)
        page.ask("Page.navigate", url=path.absolute().as_uri())
        while not any(
            event["method"] == "Page.loadEventFired" and event.get("sessionId") == session
            for event in self.events
        ):
            self.events.append(self._next())
        return page


class Page:
    """A page that is open."""

    def __init__(self, browser: Browser, session: str) -> None:
        self._browser, self._session = browser, session

    def close(self) -> None:
        """Let go of it."""
        self._browser.ask("Target.detachFromTarget", sessionId=self._session)

    def ask(self, method: str, **params: Any) -> dict[str, Any]:
        """As Browser.ask, of this page."""
        return self._browser.ask(method, self._session, **params)

    def look(self, width: int, dark: bool) -> None:
        """The width of the window in pixels, and the theme that its user likes."""
        size = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": False}
        self.ask("Emulation.setDeviceMetricsOverride", **size)
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.ask("Emulation.setEmulatedMedia", features=[scheme])

    def run(self, script: str) -> Any:
        """The value of an expression in the page, once two frames were drawn."""
        frames = "new Promise(d => requestAnimationFrame(() => requestAnimationFrame(d)))"
        return self.now(f"{frames}.then(() => ({script}\n))")

    def now(self, script: str) -> Any:
        """The same at once, as where scripts do not run."""
        found = self.ask(
            "Runtime.evaluate", expression=script, awaitPromise=True, returnByValue=True
        )
        assert "exceptionDetails" not in found, found["exceptionDetails"]
        return found["result"].get("value")

    def key(self, name: str) -> None:
        """Press a key."""
        what: dict[str, Any] = {"key": name, "code": name, "windowsVirtualKeyCode": KEYS.get(name)}
        if len(name) == 1:
            what = {"key": name, "text": name}
        self.ask("Input.dispatchKeyEvent", type="keyDown", **what)
        self.ask("Input.dispatchKeyEvent", type="keyUp", **what)

    def mouse(self, kind: str, x: float, y: float, pressed: bool = False, clicks: int = 1) -> None:
        """kind: Moved, Pressed or Released."""
        button = "left" if pressed or kind != "Moved" else "none"
        more = {"button": button, "buttons": int(pressed), "clickCount": clicks}
        self.ask("Input.dispatchMouseEvent", type=f"mouse{kind}", x=x, y=y, **more)

    def drag(self, start: tuple[float, float], end: tuple[float, float]) -> None:
        """From one place to another with the button held."""
        self.mouse("Moved", *start)
        self.mouse("Pressed", *start, pressed=True)
        (x, y), (to_x, to_y) = start, end
        for part in (0.5, 1.0):
            self.mouse("Moved", x + (to_x - x) * part, y + (to_y - y) * part, pressed=True)
        self.mouse("Released", *end)

    def complaints(self) -> list[str]:
        """What the browser said against this page, and what it asked for outside of it."""
        found = []
        for event in self._browser.events:
            method, params = event.get("method"), event.get("params", {})
            if event.get("sessionId") != self._session:
                continue
            if method == "Log.entryAdded":
                found.append(str(params["entry"]["text"]))
            elif method == "Runtime.exceptionThrown":
                found.append(str(params["exceptionDetails"]))
            elif method == "Network.requestWillBeSent":
                url = str(params["request"]["url"])
                if not url.startswith(("file:", "data:")):
                    found.append(url)
        return found

    def picture(self, path: Path) -> None:
        """The whole page as PNG."""
        found = self.ask("Page.captureScreenshot", format="png", captureBeyondViewport=True)
        path.write_bytes(base64.b64decode(found["data"]))
