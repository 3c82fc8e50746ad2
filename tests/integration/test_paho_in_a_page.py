"""Eclipse Paho JavaScript in a page of another origin, in a real browser: both subprotocols; and one that may not."""

import threading
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer

import pytest
from tests.support.browser import Browser
from tests.support.npm import modules
from tests.support.scene import ORG, Scene, state

PAGE = """<!doctype html><meta charset="utf-8"><title>paho</title><script src="paho-mqtt.js"></script><script>
const seen = {}, told = { lost: null, failed: null, connected: false, subscribed: false };
function start(host, port, token, version) {
  const client = new Paho.Client(host, port, "/api/mqtt/", "paho-page-" + version);
  client.onMessageArrived = (message) => { seen[message.destinationName] = message.payloadString; };
  client.onConnectionLost = (response) => { told.lost = response.errorMessage; };
  client.connect({
    userName: token, password: token, mqttVersion: version, mqttVersionExplicit: true, timeout: 15,
    onSuccess: () => {
      told.connected = true;
      client.subscribe("#", { qos: 1, onSuccess: () => { told.subscribed = true; } });
    },
    onFailure: (response) => { told.failed = response.errorMessage; },
  });
}
</script>"""


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *_):
        pass


@pytest.fixture(scope="module")
def elsewhere(tmp_path_factory):
    """Serve the page where another application would: at an origin of its own."""
    folder = tmp_path_factory.mktemp("page")
    (folder / "index.html").write_text(PAGE)
    script = modules("paho-mqtt", "1.1.0") / "paho-mqtt" / "paho-mqtt.js"
    (folder / "paho-mqtt.js").write_bytes(script.read_bytes())
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=folder)) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


@pytest.fixture(scope="module")
def scene(tmp_path_factory, elsewhere):
    with Scene(tmp_path_factory.mktemp("scene"), api=f'origins = ["{elsewhere}"]') as made:
        yield made


@pytest.fixture(scope="module")
def browser():
    made = Browser()
    yield made
    made.close()


def start(browser, page, scene, token, version):
    host, _, port = scene.url.removeprefix("http://").partition(":")
    browser.open(page)
    browser.script("start(...arguments)", host, int(port), token, version)


def told(browser):
    return browser.script("return told")


@pytest.mark.parametrize("version", [3, 4], ids=["mqttv3.1", "mqtt"])
def test_paho_in_a_page_gets_every_value(browser, elsewhere, scene, version):
    start(browser, elsewhere, scene, scene.reader, version)
    browser.until(lambda _: told(browser)["subscribed"] or told(browser)["failed"], "an answer")
    assert told(browser)["failed"] is None
    begin = f"placeos/{ORG}/state/bld-harbour/lvl-2/area-west/"
    power = begin + "sys-7/drv-display/Display/1/power"
    browser.until(lambda _: power in browser.script("return seen"), "the present")
    # A burst: with mqttv3.1 this library reads one packet a message, and loses what else is in it.
    scene.tell(*(state("sys-7", "drv-sensor", "Burst", f"v{version}-{n}", n) for n in range(500)))
    wanted = {f"{begin}sys-7/drv-sensor/Burst/1/v{version}-{n}" for n in range(500)}
    browser.until(lambda _: wanted <= set(browser.script("return Object.keys(seen)")), "all 500")
    assert told(browser)["lost"] is None


def test_paho_is_told_that_a_token_is_wrong(browser, elsewhere, scene):
    start(browser, elsewhere, scene, "0" * 32 + "." + "A" * 43, 4)
    browser.until(lambda _: told(browser)["failed"], "a refusal")
    assert "bad user name or password" in told(browser)["failed"].lower()
    assert not told(browser)["connected"]


def test_a_page_of_another_origin_is_refused(browser, elsewhere, scene):
    start(browser, elsewhere.replace("127.0.0.1", "localhost"), scene, scene.reader, 4)
    browser.until(lambda _: told(browser)["failed"], "a refusal")
    assert not told(browser)["connected"]
    assert any("403" in line for line in browser.console())
