"""Chromium, driven by selenium; every message of its console is kept, and a page's policy violations are among them."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from typing import Any

from selenium import webdriver
from selenium.common.exceptions import StaleElementReferenceException
from selenium.webdriver.common.by import By
from selenium.webdriver.remote.webelement import WebElement
from selenium.webdriver.support.ui import WebDriverWait

_SECONDS = 20


class Browser:
    """One window. ``dark`` and ``phone`` are what the page is told of the device."""

    def __init__(self, *, width: int = 1200, height: int = 760, dark: bool = False, phone: bool = False) -> None:
        options = webdriver.ChromeOptions()
        options.binary_location = shutil.which("chromium") or ""
        for argument in (
            "--headless=new", "--no-sandbox", "--disable-dev-shm-usage", "--disable-gpu", "--no-proxy-server",
            "--disable-background-networking", f"--window-size={width},{height}",
        ):  # fmt: skip
            options.add_argument(argument)
        options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
        self.driver = webdriver.Chrome(options=options, service=webdriver.ChromeService(shutil.which("chromedriver")))
        self.look(width=width, height=height, dark=dark, phone=phone)

    def look(self, *, width: int = 1200, height: int = 760, dark: bool = False, phone: bool = False) -> None:
        """Become another device."""
        metrics = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": phone}
        self.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
        features = [{"name": "prefers-color-scheme", "value": "dark" if dark else "light"}]
        self.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})

    def open(self, url: str) -> None:
        self.driver.get("about:blank")  # else only the part behind '#' would change
        self.driver.get(url)

    def all(self, selector: str) -> list[WebElement]:
        return [element for element in self.driver.find_elements(By.CSS_SELECTOR, selector) if element.is_displayed()]

    def one(self, selector: str, text: str = "") -> WebElement:
        """Wait for an element that is seen and holds the text."""

        def found(_: Any) -> WebElement | None:
            return next((element for element in self.all(selector) if text in element.text), None)

        return self.until(found, f"{selector} with {text!r}")

    def text(self, selector: str, text: str = "") -> str:
        """Return the text of such an element; it may be drawn anew between finding and reading it."""
        return str(self.until(lambda _: self.one(selector, text).text or None, f"the text of {selector}"))

    def click(self, selector: str, text: str = "") -> None:
        """Click on such an element, likewise."""

        def clicked(_: Any) -> bool:
            self.one(selector, text).click()
            return True

        self.until(clicked, f"a click on {selector}")

    def until(self, condition: Callable[[Any], Any], what: str) -> Any:
        wait = WebDriverWait(self.driver, _SECONDS, poll_frequency=0.05)
        try:
            return wait.until(lambda driver: _tried(condition, driver))
        except Exception as error:
            body = self.driver.find_element(By.TAG_NAME, "body").text
            raise AssertionError(f"waited in vain for {what}; the page says:\n{body}\n{self.console()}") from error

    def script(self, text: str, *arguments: Any) -> Any:
        return self.driver.execute_script(text, *arguments)

    def console(self) -> list[str]:
        """Return what the console said since the last time."""
        return [
            f"{row['level']}: {row['message']}" for row in self.driver.get_log("browser") if row["level"] != "DEBUG"
        ]

    def close(self) -> None:
        self.driver.quit()


def _tried(condition: Callable[[Any], Any], driver: Any) -> Any:
    try:
        return condition(driver)
    except StaleElementReferenceException:  # drawn anew in between
        return None
