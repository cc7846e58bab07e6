"""A headless Chromium, driven by its DevTools protocol: pictures, sizes, and errors of a page."""

import asyncio
import base64
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp

from tests.toolchains import absent

_START_S = 60.0
_CALL_S = 60.0


def chromium() -> str:
    """The program. Skips the test where there is none, or fails it in CI."""
    names = ("chromium", "chromium-browser", "google-chrome")
    found = next(filter(None, map(shutil.which, names)), None)
    if found is None:
        absent(f"no browser: none of {', '.join(names)} is on the PATH")
    return found


@dataclass(slots=True)
class Tab:
    """One tab. `errors` has what the browser reports: a blocked resource, a failed load, a wrong document."""

    socket: aiohttp.ClientWebSocketResponse
    errors: list[str] = field(default_factory=list)
    _number: int = 0

    async def call(self, method: str, **parameters: object) -> Any:
        """Calls a method of the protocol and returns its result."""
        self._number += 1
        await self.socket.send_json({"id": self._number, "method": method, "params": parameters})
        return await self._until(lambda message: message.get("id") == self._number)

    async def open(self, url: str) -> None:
        """Loads a page."""
        await self.call("Page.navigate", url=url)
        await self._until(lambda message: message.get("method") == "Page.loadEventFired")

    async def show(self, width: int, scheme: str) -> None:
        """Sets the width in pixels, and the colour scheme that the user prefers."""
        await self.call(
            "Emulation.setDeviceMetricsOverride", width=width, height=900, deviceScaleFactor=1, mobile=width < 600
        )
        media = [{"name": "prefers-color-scheme", "value": scheme}]
        await self.call("Emulation.setEmulatedMedia", features=media)

    async def value(self, expression: str) -> Any:
        """The value of an expression in the page."""
        result = await self.call("Runtime.evaluate", expression=expression, returnByValue=True)
        return result["result"]["value"]

    async def picture(self) -> bytes:
        """A picture of the whole page, as PNG."""
        result = await self.call("Page.captureScreenshot", captureBeyondViewport=True)
        return base64.b64decode(result["data"])

    async def _until(self, is_awaited: Any) -> Any:
        async with asyncio.timeout(_CALL_S):
            while True:
                message = await self.socket.receive_json()
                if message.get("method") == "Log.entryAdded":
                    self.errors.append(message["params"]["entry"]["text"])
                if is_awaited(message):
                    assert "error" not in message, message
                    return message.get("result")


@asynccontextmanager
async def browser(folder: Path) -> AsyncIterator[Tab]:
    """A tab of a new browser with an empty profile in `folder`."""
    flags = ("--headless=new", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--remote-debugging-port=0")
    process = await asyncio.create_subprocess_exec(
        chromium(), *flags, f"--user-data-dir={folder}", stderr=asyncio.subprocess.DEVNULL
    )
    try:
        port_file = folder / "DevToolsActivePort"
        async with asyncio.timeout(_START_S):
            while not port_file.exists() or len(port_file.read_text().splitlines()) < 2:  # noqa: ASYNC110
                await asyncio.sleep(0.05)
        port = port_file.read_text().splitlines()[0]
        async with aiohttp.ClientSession() as session:
            async with session.put(f"http://127.0.0.1:{port}/json/new?about:blank") as response:
                address = (await response.json(content_type=None))["webSocketDebuggerUrl"]
            async with session.ws_connect(address, max_msg_size=1 << 26) as socket:
                tab = Tab(socket)
                for domain in ("Page", "Log", "Runtime"):
                    await tab.call(f"{domain}.enable")
                yield tab
    finally:
        process.terminate()
        await process.wait()
