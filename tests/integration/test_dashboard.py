"""The dashboard in a real browser, on a running service: a new user's questions, and what the page must not do."""

import re

import pytest
from selenium.webdriver.common.keys import Keys
from tests.support.browser import Browser
from tests.support.mosquitto import free_port
from tests.support.scene import ORG, Scene, state

POWER = f"placeos/{ORG}/state/bld-harbour/lvl-2/area-west/sys-7/drv-display/Display/1/power"


@pytest.fixture(scope="module")
def scene(tmp_path_factory):
    with Scene(tmp_path_factory.mktemp("scene")) as made:
        yield made


@pytest.fixture(scope="module")
def chromium():
    browser = Browser()
    yield browser
    browser.close()


@pytest.fixture
def browser(chromium):
    chromium.look()
    chromium.console()
    yield chromium
    assert chromium.console() == [], "no error, and nothing that the policy of the page forbids"


def sign_in(browser, scene, token, *, view="topics"):
    browser.driver.delete_all_cookies()
    browser.open(f"{scene.url}/")
    browser.script("sessionStorage.clear(); localStorage.clear()")
    browser.open(f"{scene.url}/#token={token}")
    browser.one("#live", "live")
    if view != "topics":
        browser.click(f"#tabs a[data-view={view}]")


def rows(browser):
    return [element.text for element in browser.all(".row")]


def test_is_aws_receiving(browser, scene):
    sign_in(browser, scene, scene.admin)
    browser.one("#unwell", "1")
    browser.click("#tabs a[data-view=connectors]")
    assert browser.one('[data-name="aws"] .verdict', "Receiving")
    assert browser.one('[data-name="aws"] .state', "online")
    assert "Not receiving: retrying" in browser.text('[data-name="hive"] .verdict', "Not")
    assert "check that the broker runs" in browser.text('[data-name="hive"] .problem')


def test_what_does_boardroom_7_report(browser, scene):
    sign_in(browser, scene, scene.reader)
    browser.one("input[type=search]").send_keys("boardroom 7")
    first = browser.one(".row", "Boardroom 7")
    browser.one(".summary", "match")
    assert not any("Boardroom 70" in row for row in rows(browser))
    first.click()
    browser.one(".detail .values td", "Display / 1 / power")
    values = {row.text.split("\n")[0] for row in browser.all(".detail .values tr")}
    assert any("temperature 21.4" in value for value in values), values


def test_what_was_set_aside_and_why(browser, scene):
    sign_in(browser, scene, scene.admin)
    browser.click("#tabs a[data-view=dead-letters]")
    letter = browser.one(".letter", "the destination takes 80")
    assert "aws" in letter.text
    letter.find_element("css selector", "summary").click()
    assert "catering at noon" in browser.text(".letter .payload")
    browser.click(".letter .actions button.primary", "Replay")
    browser.one("[role=status]", "1 dead letter will be sent again within seconds")


def test_values_arrive_while_one_looks(browser, scene):
    sign_in(browser, scene, scene.reader)
    browser.one("input[type=search]").send_keys(
        POWER.replace("Display/1/power", "Sensor/1/#").replace("display", "sensor")
    )
    browser.click(".row", "co2")
    browser.one(".detail .payload", "")
    for value in (600, 640, 580):
        scene.tell(state("sys-7", "drv-sensor", "Sensor", "co2", value))
        browser.one(".detail .payload", str(value))
    browser.one(".row .value", "580")
    browser.until(lambda _: "between" in browser.one(".detail svg.plot").get_attribute("aria-label"), "a plot in words")


def test_a_cleared_topic_goes_away(browser, scene):
    sign_in(browser, scene, scene.reader)
    scene.tell(state("sys-8", "drv-display", "Display", "fleeting", 1))
    browser.one("input[type=search]").send_keys("fleeting")
    browser.click(".row", "fleeting")
    gone = state("sys-8", "drv-display", "Display", "fleeting", 1)
    scene.tell({**{k: v for k, v in gone.items() if k != "value"}, "kind": "cleared"})
    browser.one(".summary", "Nothing matches")
    browser.one(".detail", "This topic was cleared")


def test_all_by_keyboard(browser, scene):
    sign_in(browser, scene, scene.reader)
    browser.one(".row", "Harbour House")
    body = browser.driver.find_element("css selector", "body")
    body.send_keys("/")
    field = browser.driver.switch_to.active_element
    assert field.get_attribute("type") == "search"
    field.send_keys("+/+/state/+/+/+/sys-7/+/Display/#", Keys.ENTER)
    browser.one(".summary", "3 topics match the filter")
    tree = browser.one("[role=tree]")
    tree.send_keys(Keys.END, Keys.ENTER)
    browser.one(".detail .payload", "35")
    browser.driver.find_element("css selector", "input[type=search]").clear()
    browser.driver.find_element("css selector", "input[type=search]").send_keys(" ", Keys.BACKSPACE)
    browser.one(".row[aria-expanded=true]")
    tree.send_keys(Keys.HOME, Keys.ARROW_LEFT)
    browser.until(lambda _: len(browser.all(".row")) == 1, "one row, closed")
    tree.send_keys(Keys.ARROW_RIGHT)
    browser.until(lambda _: len(browser.all(".row")) > 1, "open again")


def test_a_reader_sees_topics_and_nothing_of_the_service(browser, scene):
    sign_in(browser, scene, scene.reader)
    browser.one(".row", "Harbour House")
    assert [link.text for link in browser.all("#tabs a")] == ["Topics"]


def test_whoever_may_not_write_gets_no_buttons(browser, scene):
    sign_in(browser, scene, scene.watcher, view="dead-letters")
    browser.one(".letter", "the destination takes").find_element("css selector", "summary").click()
    browser.one(".letter", "may not replay it")
    assert not [button.text for button in browser.all(".letters button") if "eplay" in button.text]


def test_another_organisation_sees_nothing_of_this_one(browser, scene):
    sign_in(browser, scene, scene.stranger)
    browser.one(".summary", "Nothing has come yet")
    browser.click("#tabs a[data-view=dead-letters]")
    browser.one(".letters", "nothing was set aside")


def test_a_wrong_token_is_refused_in_words(chromium, scene):
    chromium.open(f"{scene.url}/")
    chromium.script("sessionStorage.clear()")
    chromium.open(f"{scene.url}/")
    field = chromium.one("#token")
    field.send_keys("0" * 32 + "." + "A" * 43, Keys.ENTER)
    assert "not known" in chromium.one(".problem", "not known").text
    assert all("401" in line for line in chromium.console()), "the browser notes the refusal itself, and nothing else"


def test_the_token_leaves_the_address_and_ends_with_signing_out(browser, scene):
    sign_in(browser, scene, scene.reader)
    assert scene.reader not in browser.driver.current_url
    browser.click("#leave")
    browser.one("#token")
    browser.open(f"{scene.url}/")
    browser.one("#token")


def test_nothing_comes_from_elsewhere_and_the_policy_holds(browser, scene):
    sign_in(browser, scene, scene.admin, view="connectors")
    browser.one('[data-name="aws"]')
    names = browser.script("return performance.getEntriesByType('resource').map((entry) => entry.name)")
    assert names
    assert all(name.startswith(scene.url) for name in names), names


def test_what_comes_over_the_wire_is_never_markup(browser, scene):
    evil = "<img src=x onerror=\"document.title='owned'\"><script>document.title='owned'</script>"
    scene.tell(
        state("sys-8", "drv-display", "Display", "evil", evil),
        {"kind": "metadata", "org": ORG, "id": "sys-8", "metadata": {"name": evil}},
    )
    sign_in(browser, scene, scene.reader)
    browser.one("input[type=search]").send_keys("evil")
    browser.click(".row", "<img src=x")
    browser.one(".detail .payload", "<script>")
    assert browser.driver.title == "northbound"
    scene.tell({"kind": "metadata", "org": ORG, "id": "sys-8", "metadata": {"name": "Boardroom 8"}})


@pytest.mark.parametrize("dark", [False, True])
def test_words_can_be_read_in_light_and_dark_and_on_a_phone(browser, scene, dark):
    browser.look(width=390, height=800, dark=dark, phone=True)
    sign_in(browser, scene, scene.admin)
    browser.one(".row", "Harbour House")
    for view in ("topics", "connectors", "dead-letters", "privacy"):
        browser.click(f"#tabs a[data-view={view}]")
        browser.until(lambda _, view=view: browser.script("return location.hash") == f"#{view}", view)
        wide = browser.script("return document.documentElement.scrollWidth - innerWidth")
        assert wide <= 0, f"{view} is {wide} pixels wider than the phone"
        for selector in ("body", ".dim", "#tabs a"):
            assert contrast(browser, selector) >= 4.5, f"{view} {selector}"  # WCAG 2.2, 1.4.3


def contrast(browser, selector) -> float:
    """Return how well the first such element can be told from what is behind it (WCAG 2.2, relative luminance)."""
    colours = browser.script(
        """
        const seen = (one) => one.offsetParent || one === document.body;
        const element = [...document.querySelectorAll(arguments[0])].find(seen);
        if (!element) return null;
        const clear = (one) => /rgba\\(0, 0, 0, 0\\)|transparent/.test(getComputedStyle(one).backgroundColor);
        let behind = element;
        while (behind.parentElement && clear(behind)) behind = behind.parentElement;
        return [getComputedStyle(element).color, getComputedStyle(behind).backgroundColor];
        """,
        selector,
    )
    if colours is None:
        return 21.0
    light, dark = sorted((luminance(colour) for colour in colours), reverse=True)
    return (light + 0.05) / (dark + 0.05)


def luminance(colour: str) -> float:
    parts = [int(part) / 255 for part in re.findall(r"\d+", colour)[:3]]
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return sum(weight * part for weight, part in zip((0.2126, 0.7152, 0.0722), linear, strict=True))


def test_many_topics_are_few_elements(browser, scene):
    scene.tell(*(state(f"sys-many-{n // 100}", "drv-sensor", "Sensor", f"value-{n % 100}", n) for n in range(20_000)))
    sign_in(browser, scene, scene.reader)
    browser.until(lambda _: re.match(r"2\d,\d{3} topics", browser.text(".summary")), "20,000 topics")
    browser.one("input[type=search]").send_keys("sys-many-199 value")
    browser.one(".summary", "100 topics match")
    assert len(browser.all(".row")) < 100
    browser.driver.find_element("css selector", "input[type=search]").clear()
    browser.driver.find_element("css selector", "input[type=search]").send_keys("+/+/state/#")
    browser.one(".summary", "topics match the filter")
    tree = browser.one("[role=tree]")
    tree.send_keys(Keys.END)
    browser.until(lambda _: int(browser.one(".row.active").get_attribute("aria-posinset")) > 20_000, "the last row")
    assert browser.script("return document.querySelectorAll('.row').length") < 100


def test_the_page_finds_the_service_again_and_forgets_what_is_gone(chromium, tmp_path):
    with Scene(tmp_path, http=free_port()) as scene:
        scene.tell(state("sys-8", "drv-display", "Display", "fleeting", 1))
        sign_in(chromium, scene, scene.reader)
        chromium.one("input[type=search]").send_keys("sys-8 display")
        chromium.one(".row", "fleeting")
        scene.service.stop()
        chromium.one("#live", "connecting")
        gone = state("sys-8", "drv-display", "Display", "fleeting", 1)
        scene.tell({**{key: item for key, item in gone.items() if key != "value"}, "kind": "cleared"})
        scene.tell(state("sys-8", "drv-display", "Display", "lasting", 1))
        scene.start()
        chromium.one("#live", "live")
        chromium.one(".row", "lasting")
        assert not any("fleeting" in row for row in rows(chromium))
    chromium.open("about:blank")
    assert all("WebSocket" in line or "ERR_CONNECTION" in line for line in chromium.console())
