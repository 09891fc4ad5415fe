"""Chromium without a window, told what to do through a pair of pipes (its remote debugging protocol)."""

import base64
import contextlib
import json
import os
import select
import shutil
import signal
import subprocess
import sys
import time

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
"""The program; None if there is none here."""

FLAGS = [
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync"),
    *("--disable-background-networking", "--disable-component-update", "--remote-debugging-pipe"),
]

LAUNCH = """
import fcntl, os, sys
ends = [fcntl.fcntl(int(end), fcntl.F_DUPFD, 10) for end in sys.argv[1:3]]
for end, place in zip(ends, (3, 4)):
    os.dup2(end, place)
os.execv(sys.argv[3], sys.argv[3:])
"""
"""Chromium reads from file descriptor 3 and writes to 4."""

SECONDS = 20
"""For an answer, at most."""


class Browser:
    """One page of one browser.

    Attributes:
      events: what the browser told of itself, (method, params).
    """

    def __init__(self, profile):
        reads, self._to = os.pipe()
        self._from, writes = os.pipe()
        command = [
            sys.executable,
            "-c",
            LAUNCH,
            str(reads),
            str(writes),
            CHROMIUM,
            *FLAGS,
            f"--user-data-dir={profile}",
        ]
        options = {"pass_fds": (reads, writes), "start_new_session": True, "stderr": subprocess.DEVNULL}
        self._process = subprocess.Popen(command, **options)
        os.close(reads), os.close(writes)
        self._sent, self._buffer, self._session, self.events = 0, b"", {}, []
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        found = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        self._session = {"sessionId": found}
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.call(f"{domain}.enable")

    def close(self):
        """End it and all its processes."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait(SECONDS)
        os.close(self._to), os.close(self._from)

    def call(self, method, **params):
        """The result of a command."""
        self._sent += 1
        message = {"id": self._sent, "method": method, "params": params, **self._session}
        os.write(self._to, json.dumps(message).encode() + b"\0")
        return self._until(lambda found: found.get("id") == self._sent)["result"]

    def open(self, path, width, height=900, dark=False):
        """Show a file in a window of this size; what was told before is forgotten."""
        size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600}
        self.call("Emulation.setDeviceMetricsOverride", **size)
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.call("Emulation.setEmulatedMedia", features=[scheme])
        self.events.clear()
        self.call("Page.navigate", url=path.as_uri())
        if not any(method == "Page.loadEventFired" for method, _ in self.events):
            self._until(lambda found: found.get("method") == "Page.loadEventFired")

    def value(self, expression):
        """What an expression of JavaScript is, or the promise that it is keeps."""
        found = self.call("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in found, found["exceptionDetails"]
        return found["result"].get("value")

    def press(self, key, text=""):
        """Press a key and let go of it."""
        self.call("Input.dispatchKeyEvent", type="keyDown", key=key, text=text)
        self.call("Input.dispatchKeyEvent", type="keyUp", key=key)

    def picture(self, path):
        """Write a PNG of the whole page."""
        found = self.call("Page.captureScreenshot", captureBeyondViewport=True)
        path.write_bytes(base64.b64decode(found["data"]))

    def _until(self, wanted):
        """The next message that is wanted."""
        deadline = time.monotonic() + SECONDS
        while True:
            while b"\0" in self._buffer:
                message, _, self._buffer = self._buffer.partition(b"\0")
                found = json.loads(message)
                if "method" in found:
                    self.events.append((found["method"], found["params"]))
                if wanted(found):
                    assert "error" not in found, found["error"]
                    return found
            left = deadline - time.monotonic()
            assert left > 0 and select.select([self._from], [], [], left)[0], "the browser does not answer"
            piece = os.read(self._from, 2**20)
            assert piece, "the browser has ended"
            self._buffer += piece
