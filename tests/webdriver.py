"""A headless Chromium that tests drive by WebDriver's JSON over HTTP.

Nothing is to be installed for it but Debian's chromium and chromium-driver.
"""

import contextlib
import json
import shutil
import socket
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

DRIVER = shutil.which("chromedriver")
BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)  # fmt: skip
ELEMENT = "element-6066-11e4-a52e-4f735466cecf"
KEYS = {
    "left": "\ue012", "right": "\ue014", "down": "\ue015", "enter": "\ue007", "tab": "\ue004",
    "control": "\ue009",
}  # fmt: skip


class Browser:
    """A headless Chromium, by WebDriver (https://www.w3.org/TR/webdriver2/)."""

    def __init__(self, port: int, downloads: Path):
        self.at = f"http://127.0.0.1:{port}"
        arguments = [
            "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
            "--disable-background-networking", "--disable-component-update", "--disable-sync",
            "--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream",
            "--disable-dev-shm-usage", "--window-size=1300,1000",
        ]  # fmt: skip
        options = {
            "binary": BROWSER,
            "args": arguments,
            "prefs": {"download.default_directory": str(downloads)},
        }
        wanted = {
            "browserName": "chrome",
            "goog:chromeOptions": options,
            "goog:loggingPrefs": {"browser": "ALL", "performance": "ALL"},
        }
        self.session = ""
        found = self.call("POST", "", {"capabilities": {"alwaysMatch": wanted}})
        self.session = found["sessionId"]

    def call(self, method: str, path: str, body: object = None):
        path = f"/session/{self.session}{path}" if self.session else "/session"
        data = None if method != "POST" else json.dumps(body or {}).encode()
        request = urllib.request.Request(self.at + path, data, method=method)
        try:
            return json.load(urllib.request.urlopen(request, timeout=90))["value"]
        except urllib.error.HTTPError as error:
            raise AssertionError(json.load(error)["value"]["message"]) from None

    def open(self, address: str) -> None:
        self.call("POST", "/url", {"url": address})

    def js(self, script: str, *arguments: object):
        return self.call("POST", "/execute/sync", {"script": script, "args": list(arguments)})

    def find(self, css: str) -> str:
        return self.call("POST", "/element", {"using": "css selector", "value": css})[ELEMENT]

    def click(self, css: str) -> None:
        self.call("POST", f"/element/{self.find(css)}/click")

    def type(self, css: str, text: str) -> None:
        self.call("POST", f"/element/{self.find(css)}/value", {"text": text})

    def text(self, css: str) -> str:
        return self.js("return document.querySelector(arguments[0]).innerText", css)

    def shown(self, css: str) -> bool:
        return self.js("return !!document.querySelector(arguments[0])?.checkVisibility()", css)

    def wait(self, what: Callable[[], object], seconds: float = 60):
        end = time.monotonic() + seconds
        while not (value := what()):
            assert time.monotonic() < end, f"after {seconds} s: {self.js('return document.body.innerText')}"  # fmt: skip
            time.sleep(0.05)
        return value

    def hover(self, css: str, right: int = 0, down: int = 0) -> None:
        """The pointer at the centre of an element, and so many pixels from it."""
        move = {"type": "pointerMove", "duration": 0, "x": right, "y": down, "origin": {ELEMENT: self.find(css)}}  # fmt: skip
        pointer = {"type": "pointer", "id": "mouse", "actions": [move]}
        self.call("POST", "/actions", {"actions": [pointer]})

    def press(self, *keys: str) -> None:
        """Keys, held together, for what has the focus."""
        actions = [{"type": "keyDown", "value": key} for key in keys]
        actions += [{"type": "keyUp", "value": key} for key in reversed(keys)]
        self.call("POST", "/actions", {"actions": [{"type": "key", "id": "k", "actions": actions}]})

    def slide(self, name: str, value: float) -> None:
        script = "const s = document.getElementById(arguments[0]); s.value = arguments[1]; s.dispatchEvent(new Event('input'))"
        self.js(script, name, value)

    def size(self, width: int, height: int, scheme: str) -> None:
        """The width of the page, and the person's choice of colours."""
        metrics = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False}
        features = [{"name": "prefers-color-scheme", "value": scheme}]
        for what, values in (
            ("Emulation.setDeviceMetricsOverride", metrics),
            ("Emulation.setEmulatedMedia", {"features": features}),
        ):
            self.call("POST", "/goog/cdp/execute", {"cmd": what, "params": values})

    def complaints(self) -> list[str]:
        return [entry["message"] for entry in self.call("POST", "/se/log", {"type": "browser"})]

    def requests(self) -> set[str]:
        """Addresses that any page asked for."""
        entries = self.call("POST", "/se/log", {"type": "performance"})
        messages = [json.loads(entry["message"])["message"] for entry in entries]
        return {
            message["params"]["request"]["url"]
            for message in messages
            if message["method"] == "Network.requestWillBeSent"
        }


@contextlib.contextmanager
def started(downloads: Path) -> Iterator[Browser]:
    """A browser that saves files in the folder `downloads`."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    driver = subprocess.Popen([DRIVER, f"--port={port}"], stdout=subprocess.DEVNULL)
    try:
        for _ in range(300):
            with contextlib.suppress(OSError):
                socket.create_connection(("127.0.0.1", port), timeout=1).close()
                break
            time.sleep(0.1)
        browser = Browser(port, downloads)
        yield browser
        browser.call("DELETE", "")
    finally:
        driver.terminate()
        driver.wait()
