"""A real Chromium, driven over its DevTools protocol: one tab, in sync, by an aiohttp WebSocket.

Source: https://chromedevtools.github.io/devtools-protocol/. No driver and no package beside aiohttp is needed.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest

EXECUTABLE = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    # A container's /dev/shm has 64 MB.
    "--disable-dev-shm-usage",
    "--hide-scrollbars",
    "--force-color-profile=srgb",
    "--remote-debugging-port=0",
    "about:blank",
)
WAIT_S = 30.0
KEYS = {"Tab": {"windowsVirtualKeyCode": 9}, "Enter": {"windowsVirtualKeyCode": 13, "text": "\r"}}
"""What Chromium needs beside the name, to do by itself what these keys do."""


class CommandError(AssertionError):
    """Chromium did not carry a command out."""


class Tab:
    """One tab of a running Chromium."""

    def __init__(self, profile: Path) -> None:
        self.loop = asyncio.new_event_loop()
        self.problems: list[str] = []
        """Uncaught errors and console errors of the page; a refused fetch is one of these."""
        self._number = 0
        self.loop.run_until_complete(self._connect(profile))

    async def _connect(self, profile: Path) -> None:
        self._session = aiohttp.ClientSession()
        port = await _debug_port(profile)
        async with self._session.get(f"http://127.0.0.1:{port}/json/list") as answer:
            pages = [page for page in await answer.json() if page["type"] == "page"]
        self._socket = await self._session.ws_connect(pages[0]["webSocketDebuggerUrl"], max_msg_size=0)
        for domain in ("Page", "Runtime", "Log", "Network", "DOM"):
            await self._send(f"{domain}.enable", {})

    def send(self, method: str, **parameters: Any) -> Any:
        """Return the result of one command."""
        return self.loop.run_until_complete(self._send(method, parameters))

    async def _send(self, method: str, parameters: dict[str, Any]) -> Any:
        self._number += 1
        await self._socket.send_json({"id": self._number, "method": method, "params": parameters})
        while True:
            message = json.loads((await self._socket.receive(WAIT_S)).data)
            if message.get("id") == self._number:
                if "error" in message:
                    raise CommandError(f"{method}: {message['error']['message']}")
                return message["result"]
            self._note(message)

    def _note(self, message: dict[str, Any]) -> None:
        if message.get("method") == "Runtime.exceptionThrown":
            details = message["params"]["exceptionDetails"]
            self.problems.append(details.get("exception", {}).get("description", details["text"]))
        if message.get("method") == "Log.entryAdded" and message["params"]["entry"]["level"] == "error":
            entry = message["params"]["entry"]
            self.problems.append(f"{entry['text']} {entry.get('url', '')}")

    def open(self, url: str) -> None:
        """Go to `url`; nothing is waited for."""
        self.send("Page.navigate", url=url)

    def run(self, script: str) -> Any:
        """Return the value of a JavaScript expression, awaited where it is a promise."""
        result = self.send("Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in result, result["exceptionDetails"]
        return result["result"].get("value")

    def wait(self, script: str, wait_s: float = WAIT_S) -> Any:
        """Return the value of an expression once it is true."""
        ends_s = time.monotonic() + wait_s
        # An element has no value of its own to return.
        script = f"(value => value instanceof Node ? true : value)({script})"
        while not (value := self._run_between_pages(script)):
            if time.monotonic() > ends_s:
                raise AssertionError(f"never true: {script}\n{self.run('document.body.innerText')}\n{self.problems}")
            time.sleep(0.05)
        return value

    def _run_between_pages(self, script: str) -> Any:
        """Return the value of an expression, None where the page was left before it had one."""
        try:
            return self.run(script)
        except CommandError as error:
            if "navigated" not in str(error) and "context" not in str(error):
                raise
            return None

    def text(self, selector: str) -> str:
        """Return an element's text as it is displayed, empty where there is no such element."""
        return str(self.run(f"document.querySelector({json.dumps(selector)})?.innerText ?? ''"))

    def box(self, selector: str) -> dict[str, float]:
        """Return an element's `x`, `y`, `width` and `height` in the window, scrolled into view."""
        script = f"""(() => {{ const node = document.querySelector({json.dumps(selector)});
            node.scrollIntoView({{block: "center"}}); return node.getBoundingClientRect().toJSON(); }})()"""
        return dict(self.run(script))

    def click(self, selector: str) -> None:
        """Press and release the mouse in the middle of an element."""
        box = self.box(selector)
        self.drag([(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)])

    def drag(self, points: list[tuple[float, float]]) -> None:
        """Move the mouse through `points` with its button down."""
        kinds = ["mousePressed", *["mouseMoved"] * (len(points) - 1), "mouseReleased"]
        for kind, (x, y) in zip(kinds, [*points, points[-1]], strict=True):
            self.send("Input.dispatchMouseEvent", type=kind, x=x, y=y, button="left", buttons=1, clickCount=1)

    def key(self, key: str, times: int = 1) -> None:
        """Press a key."""
        text: dict[str, Any] = {"text": key} if len(key) == 1 else KEYS.get(key, {})
        for _ in range(times):
            self.send("Input.dispatchKeyEvent", type="keyDown", key=key, code="Space" if key == " " else key, **text)
            self.send("Input.dispatchKeyEvent", type="keyUp", key=key)

    def choose_file(self, selector: str, path: Path) -> None:
        """Put a file into a file input."""
        document = self.send("DOM.getDocument")["root"]["nodeId"]
        node = self.send("DOM.querySelector", nodeId=document, selector=selector)["nodeId"]
        self.send("DOM.setFileInputFiles", files=[str(path)], nodeId=node)

    def drop_file(self, selector: str, path: Path) -> None:
        """Drag a file from outside onto an element."""
        box = self.box(selector)
        where = {"x": box["x"] + box["width"] / 2, "y": box["y"] + box["height"] / 2}
        data = {"items": [], "files": [str(path)], "dragOperationsMask": 1}
        for kind in ("dragEnter", "dragOver", "drop"):
            self.send("Input.dispatchDragEvent", type=kind, data=data, **where)

    def resize(self, width: int, height: int, is_phone: bool = False) -> None:
        """Give the window another size; a phone has touch and twice the pixels."""
        self.send(
            "Emulation.setDeviceMetricsOverride",
            width=width, height=height, deviceScaleFactor=2 if is_phone else 1, mobile=is_phone,
        )  # fmt: skip

    def prefer(self, scheme: str) -> None:
        """Set the reader's preference: `light` or `dark`."""
        self.send("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])

    def screenshot(self, path: Path, whole: bool = True) -> None:
        """Write what is seen, or the whole page, as PNG."""
        data = self.send("Page.captureScreenshot", format="png", captureBeyondViewport=whole)["data"]
        path.write_bytes(base64.b64decode(data))

    def close(self) -> None:
        """Leave the browser."""
        self.loop.run_until_complete(self._session.close())
        self.loop.close()


async def _debug_port(profile: Path) -> int:
    """Return the port that Chromium chose; it writes it into its profile."""
    ends_s = time.monotonic() + WAIT_S
    while time.monotonic() < ends_s:
        with contextlib.suppress(OSError, IndexError, ValueError):
            return int((profile / "DevToolsActivePort").read_text().splitlines()[0])
        await asyncio.sleep(0.05)
    raise AssertionError("Chromium did not say on which port it listens")


@contextlib.contextmanager
def chromium(profile: Path) -> Iterator[Tab]:
    """Run a Chromium of its own, with a fresh `profile`; skips the test where there is none."""
    if EXECUTABLE is None:
        pytest.skip("no Chromium here: install Debian's package `chromium`")
    command = [EXECUTABLE, f"--user-data-dir={profile}", *FLAGS]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        tab = Tab(profile)
        try:
            yield tab
        finally:
            tab.close()
    finally:
        process.terminate()
        process.wait(10)
