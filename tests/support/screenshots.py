"""Draws the pictures of ``docs/dashboard.md``: ``python -m tests.support.screenshots``. Look at them afterwards."""

from __future__ import annotations

import random
import tempfile
import time
from pathlib import Path

from tests.support.browser import Browser
from tests.support.scene import Scene, state

TARGET = Path(__file__).parent.parent.parent / "docs" / "images"


def _shoot(browser: Browser, name: str) -> None:
    time.sleep(1.2)  # until numbers that are asked for once a second are there
    browser.driver.save_screenshot(str(TARGET / f"{name}.png"))


def _sign_in(browser: Browser, scene: Scene, *, dark: bool = False, phone: bool = False) -> None:
    width, height = (390, 760) if phone else (1100, 680)
    browser.look(width=width, height=height, dark=dark, phone=phone)
    browser.open(f"{scene.url}/#token={scene.admin}")
    browser.one("#live", "live")


def _live_a_little(scene: Scene) -> None:
    temperature = 21.4
    for turn in range(24):
        temperature = round(temperature + random.uniform(-0.3, 0.35), 1)
        scene.tell(
            state("sys-7", "drv-sensor", "Sensor", "temperature", temperature),
            state("sys-7", "drv-sensor", "Sensor", "co2", 500 + 9 * turn),
            *(state("sys-8", "drv-light", "Lights", "level", 60 + turn) for _ in range(3)),
        )
        time.sleep(0.35)


def main() -> None:
    """Write every picture."""
    TARGET.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as folder, Scene(Path(folder)) as scene:
        browser = Browser()
        try:
            _sign_in(browser, scene)
            _live_a_little(scene)
            browser.one("input[type=search]").send_keys("boardroom 7")
            browser.click(".row", "Boardroom 7")
            _shoot(browser, "dashboard-boardroom")
            browser.click(".values button", "temperature")
            _shoot(browser, "dashboard-history")
            browser.click("#tabs a[data-view=connectors]")
            for _ in range(6):
                scene.tell(*(state("sys-8", "drv-light", "Lights", "level", n) for n in range(20)))
                time.sleep(0.5)
            _shoot(browser, "dashboard-connectors")
            browser.click("#tabs a[data-view=dead-letters]")
            browser.click(".letter summary")
            browser.one(".letter .payload")
            _shoot(browser, "dashboard-dead-letters")
            _sign_in(browser, scene, dark=True)
            _live_a_little(scene)
            browser.click(".row", "Boardroom 7")
            _shoot(browser, "dashboard-dark")
            _sign_in(browser, scene, phone=True)
            _shoot(browser, "dashboard-phone")
            _sign_in(browser, scene, dark=True, phone=True)
            browser.click("#tabs a[data-view=connectors]")
            _shoot(browser, "dashboard-phone-dark")
        finally:
            browser.close()


if __name__ == "__main__":
    main()
