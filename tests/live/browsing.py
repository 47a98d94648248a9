"""A browser for tests of pages: Debian's chromium, by playwright."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--disable-background-networking"]


@contextmanager
def browser() -> Iterator[Any]:
    """Chromium, or skip."""
    sync_api = pytest.importorskip("playwright.sync_api", reason="type: pip install playwright")
    if CHROMIUM is None:
        pytest.skip("no chromium; type: apt-get install chromium")
    with sync_api.sync_playwright() as player:
        found = player.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        try:
            yield found
        finally:
            found.close()


@pytest.fixture(scope="module")
def chromium() -> Iterator[Any]:
    """The browser of a module's tests."""
    with browser() as found:
        yield found


@contextmanager
def page(
    found: Any, width: int = 1440, scheme: str = "light", scripts: bool = True, touch: bool = False
) -> Iterator[Any]:
    """A window, in which no script may fail."""
    window = found.new_context(
        viewport={"width": width, "height": 900},
        color_scheme=scheme,
        java_script_enabled=scripts,
        has_touch=touch,
        is_mobile=touch,
    )
    opened, errors = window.new_page(), list[str]()
    opened.on("pageerror", lambda error: errors.append(str(error)))
    opened.on("console", lambda said: errors.append(said.text) if said.type == "error" else None)
    yield opened
    window.close()
    expected = (
        "ERR_CONNECTION",
        "ERR_INCOMPLETE",
        "status of 404",
    )  # a server killed, a training not there yet
    ours = [error for error in errors if not any(words in error for words in expected)]
    assert not ours, ours


def violations(opened: Any) -> list[str]:
    """What axe finds against a page."""
    axe = pytest.importorskip(
        "axe_playwright_python.sync_playwright", reason="type: pip install axe-playwright-python"
    )
    return [each["id"] for each in axe.Axe().run(opened).response["violations"]]
