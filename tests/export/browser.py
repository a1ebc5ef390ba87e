"""A headless Chromium, driven over a pipe by the Chrome DevTools Protocol."""

import itertools
import json
import os
import select
import shutil
import signal
import subprocess
import sys
import time
from base64 import b64decode
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
# Of an answer, and of what `wait` waits for.
PATIENCE_SECONDS = 60
# The browser reads commands from file 3 and writes answers to file 4.
_LAUNCH = """
import os, sys
os.dup2(int(sys.argv[1]), 3)
os.dup2(int(sys.argv[2]), 4)
os.execv(sys.argv[3], sys.argv[3:])
"""


def installed() -> str | None:
    """Return the path of a browser, or None."""
    return next(filter(None, map(shutil.which, NAMES)), None)


class Browser:
    """One page of a running browser.

    Attributes:
        requests: addresses that the page asked for.
        messages: the errors that it threw or that the browser saw in it.
    """

    def __init__(self, commands: int, answers: int) -> None:
        self._commands, self._answers = commands, answers
        self._numbers, self._buffer, self._session = itertools.count(1), b"", ""
        self.requests: list[str] = []
        self.messages: list[str] = []
        self._loaded = False
        target = self.send("Target.createTarget", url="about:blank")["targetId"]
        self._session = self.send("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Network", "Log"):
            self.send(f"{domain}.enable")

    def send(self, method: str, **params: Any) -> Any:
        """Give a command and return its result."""
        number = next(self._numbers)
        message = {"id": number, "method": method, "params": params}
        if self._session:
            message["sessionId"] = self._session
        rest = json.dumps(message).encode() + b"\0"
        while rest:
            rest = rest[os.write(self._commands, rest) :]
        while True:
            answer = self._receive()
            if answer.get("id") == number:
                assert "error" not in answer, (method, answer["error"])
                return answer["result"]

    def _receive(self) -> dict[str, Any]:
        while b"\0" not in self._buffer:
            assert select.select([self._answers], [], [], PATIENCE_SECONDS)[0], (
                "the browser does not answer"
            )
            read = os.read(self._answers, 1 << 20)
            assert read, "the browser has ended"
            self._buffer += read
        text, self._buffer = self._buffer.split(b"\0", 1)
        message: dict[str, Any] = json.loads(text)
        match message.get("method"):
            case "Network.requestWillBeSent":
                self.requests.append(message["params"]["request"]["url"])
            case "Runtime.exceptionThrown":
                self.messages.append(json.dumps(message["params"]["exceptionDetails"]))
            case "Log.entryAdded" if message["params"]["entry"]["level"] == "error":
                self.messages.append(message["params"]["entry"]["text"])
            case "Page.loadEventFired":
                self._loaded = True
        return message

    def open(self, url: str) -> None:
        """Open a page and wait until it is loaded."""
        self._load("Page.navigate", url=url)

    def reload(self) -> None:
        """Load the page again."""
        self._load("Page.reload")

    def _load(self, method: str, **params: Any) -> None:
        self._loaded = False
        self.send(method, **params)
        while not self._loaded:
            self._receive()

    def evaluate(self, expression: str) -> Any:
        """Return the value of an expression of JavaScript in the page."""
        result = self.send("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in result, result["exceptionDetails"]
        return result["result"].get("value")

    def wait(self, expression: str) -> None:
        """Wait until an expression is true."""
        end = time.monotonic() + PATIENCE_SECONDS
        while not self.evaluate(expression):
            assert time.monotonic() < end, f"never true: {expression}"
            time.sleep(0.02)

    def text(self, selector: str) -> str:
        """Return the text of an element."""
        found: str = self.evaluate(f"document.querySelector({json.dumps(selector)}).textContent")
        return found

    def click(self, selector: str) -> None:
        """Click on the middle of an element."""
        self.stroke([self.point(selector, 0.5, 0.5)])

    def point(self, selector: str, x: float, y: float) -> tuple[float, float]:
        """Return where a point of an element, in shares of its width and height, is in the window."""
        left, top, width, height = self.evaluate(
            "((element) => { element.scrollIntoView({ block: 'nearest' }); "
            "const box = element.getBoundingClientRect(); "
            "return [box.left, box.top, box.width, box.height]; })"
            f"(document.querySelector({json.dumps(selector)}))"
        )
        return left + x * width, top + y * height

    def stroke(self, points: list[tuple[float, float]]) -> None:
        """Press the mouse at the first point, move it through the others, and let go."""
        kinds = ["mousePressed", *["mouseMoved"] * (len(points) - 1), "mouseReleased"]
        for kind, (x, y) in zip(kinds, [*points, points[-1]], strict=True):
            self.send(
                "Input.dispatchMouseEvent", type=kind, x=x, y=y, button="left", buttons=1, clickCount=1
            )

    def touch(self, points: list[tuple[float, float]]) -> None:
        """Do the same with a finger."""
        for kind, (x, y) in zip(["touchStart", *["touchMove"] * (len(points) - 1)], points, strict=True):
            self.send("Input.dispatchTouchEvent", type=kind, touchPoints=[{"x": x, "y": y}])
        self.send("Input.dispatchTouchEvent", type="touchEnd", touchPoints=[])

    def key(self, key: str, text: str = "") -> None:
        """Press and release a key."""
        self.send("Input.dispatchKeyEvent", type="keyDown", key=key, text=text)
        self.send("Input.dispatchKeyEvent", type="keyUp", key=key)

    def look(self, width: int, height: int, *, dark: bool = False, calm: bool = False) -> None:
        """Set the window's size and what the reader prefers."""
        self.send(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=height,
            deviceScaleFactor=1,
            mobile=width < 500,
        )
        features = {
            "prefers-color-scheme": "dark" if dark else "light",
            "prefers-reduced-motion": "reduce" if calm else "no-preference",
        }
        self.send(
            "Emulation.setEmulatedMedia",
            features=[{"name": name, "value": value} for name, value in features.items()],
        )

    def screenshot(self, path: Path) -> None:
        """Write a PNG of the window."""
        path.write_bytes(b64decode(self.send("Page.captureScreenshot")["data"]))


@contextmanager
def browser(program: str, profile: Path) -> Iterator[Browser]:
    """Give a browser, which ends with the block.

    Args:
        program: path of it.
        profile: folder for what it keeps.
    """
    import fcntl

    commands, answers = os.pipe(), os.pipe()
    # Not 3 or 4 themselves.
    inner = [fcntl.fcntl(end, fcntl.F_DUPFD_CLOEXEC, 10) for end in (commands[0], answers[1])]
    options = [
        "--headless=new",
        "--remote-debugging-pipe",
        "--no-first-run",
        "--disable-gpu",
        "--disable-dev-shm-usage",
        "--disable-background-networking",
        f"--user-data-dir={profile}",
        *(["--no-sandbox"] if os.geteuid() == 0 else []),
    ]
    process = subprocess.Popen(
        [sys.executable, "-c", _LAUNCH, *map(str, inner), program, *options],
        pass_fds=inner,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    for end in (commands[0], answers[1], *inner):
        os.close(end)
    try:
        yield Browser(commands[1], answers[0])
    finally:
        os.close(commands[1])
        os.close(answers[0])
        # With its helpers.
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
