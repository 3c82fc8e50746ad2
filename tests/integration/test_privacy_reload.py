"""Changed privacy rules take effect on SIGHUP; nothing is lost or repeated, and wrong ones are refused."""

from __future__ import annotations

import json
import signal
import threading
from collections.abc import Sequence
from pathlib import Path

from tests.support.mosquitto import Mosquitto
from tests.support.service import Service, until
from tests.support.subscriber import Arrived, Subscriber

SECRET = '[privacy]\nsecret = "the-secret-of-the-test"\n'
MASKED = '[[privacy.rules]]\nname = "addresses"\ndetect = ["email"]\naction = "mask"\n'
CAUTIOUS = f'{MASKED}connectors = ["cautious"]\n'

X = '[[privacy.rules]]\nname = "x"\ndetect = ["x"]\naction = "drop"\n[privacy.detectors.x]'
WRONG = (
    '[[privacy.rules]]\nname = "x"\ndetect = ["emial"]\naction = "mask"',
    '[[privacy.rules]]\nname = "x"\naction = "mask"',
    f'{X}\ntype = "regex"\npattern = "(a"',
    f'{X}\ntype = "person"\nnames = "none"',
    '[[privacy.rules]]\nname = "x"\ndetect = ["email"]\naction = "mask"\nconnectors = ["clout"]',
)


def event(number: int) -> bytes:
    return json.dumps(
        {"kind": "state", "org": "o", "building": "b", "system": "s", "driver": "d", "module": "M", "index": 1,
         "state": f"s{number % 50}", "value": [number, "jane.doe@example.com"]}
    ).encode()  # fmt: skip


def configuration(port: int, privacy: str) -> str:
    return f"""
    {privacy}
    [sources.in]
    type = "jsonl"
    path = "events.jsonl"
    follow = true
    [connectors.local]
    type = "mqtt"
    url = "mqtt://127.0.0.1:{port}"
    [connectors.cautious]
    type = "file"
    path = "cautious.jsonl"
    """


class Feed(threading.Thread):
    """Appends events for as long as the test wants."""

    def __init__(self, path: Path) -> None:
        super().__init__(daemon=True)
        self.path = path
        self.count = 0
        self._enough = threading.Event()
        path.write_bytes(b"")

    def run(self) -> None:
        while not self._enough.wait(0.01):
            with self.path.open("ab") as file:
                file.writelines(event(self.count + n) + b"\n" for n in range(10))
            self.count += 10

    def stop(self) -> None:
        self._enough.set()
        self.join(10)


def values(payloads: list[bytes | str]) -> list[list]:
    return [json.loads(json.loads(payload)["value"]) for payload in payloads]


def written(tmp_path: Path) -> list[list]:
    path = tmp_path / "cautious.jsonl"
    whole = path.read_text().rpartition("\n")[0] if path.exists() else ""  # the last line may be under way
    rows = [json.loads(line) for line in whole.splitlines()]
    return values([row["payload"] for row in rows])


def reload(service: Service, text: str, count: int) -> None:
    service.config.write_text(text)
    service.process.send_signal(signal.SIGHUP)
    until(lambda: service.log().count("reloaded:") == count, what=service.log()[-1000:])


def test_changed_rules_take_effect_and_nothing_is_lost_or_repeated(tmp_path):
    feed = Feed(tmp_path / "events.jsonl")
    with Mosquitto(tmp_path, config_lines=["max_queued_messages 0"]) as broker, Subscriber(broker.port) as recorder:
        text = configuration(broker.port, SECRET)
        with Service(tmp_path, text) as service:
            feed.start()
            until(lambda: len(recorder.arrived) > 500, what="nothing flows")
            reload(service, configuration(broker.port, SECRET + MASKED), 1)
            until(lambda: _kinds(recorder.arrived[-1:])[0] == "masked", what="not masked")
            reload(service, configuration(broker.port, SECRET + CAUTIOUS), 2)
            until(lambda: _kinds(recorder.arrived[-1:])[0] == "hashed", what="not hashed again")
            reload(service, configuration(broker.port, "[privacy]\ndefault = false\n" + CAUTIOUS), 3)
            until(lambda: _kinds(recorder.arrived[-1:])[0] == "plain", what="not plain")
            until(lambda: [form for _, form in written(tmp_path)[-1:]] == ["j***@***.com"], what="not masked for one")
            feed.stop()
            until(lambda: len(recorder.arrived) == feed.count, timeout=60, what="not all arrived")
            assert service.stop() == 0
            log = service.log()
        arrived = values([m.payload for m in recorder.arrived])
    # The order holds over all topics, for one connection carried all of it.
    assert [number for number, _ in arrived] == list(range(feed.count))
    assert [number for number, _ in written(tmp_path)] == list(range(feed.count))
    assert log.count("local: online") == 1, "a connector that did not change was touched"
    kinds = _kinds(recorder.arrived)
    assert [kind for at, kind in enumerate(kinds) if at == 0 or kinds[at - 1] != kind] == [
        "hashed",
        "masked",
        "hashed",
        "plain",
    ]
    # What was stored when the file's own rule came is masked for it, as all that came later.
    shown = ["hashed" if "-" in text else "masked" if "*" in text else "plain" for _, text in written(tmp_path)]
    assert "plain" not in shown


def _kinds(arrived: Sequence[Arrived]) -> list[str]:
    texts = [text for _, text in values([message.payload for message in arrived])]
    return ["hashed" if "@" not in text else "masked" if "*" in text else "plain" for text in texts]


def test_wrong_rules_are_refused_and_the_old_ones_go_on(tmp_path):
    feed = Feed(tmp_path / "events.jsonl")
    with Mosquitto(tmp_path, config_lines=["max_queued_messages 0"]) as broker, Subscriber(broker.port) as recorder:
        with Service(tmp_path, configuration(broker.port, SECRET)) as service:
            feed.start()
            until(lambda: len(recorder.arrived) > 200, what="nothing flows")
            for number, rules in enumerate(WRONG, 1):
                service.config.write_text(configuration(broker.port, SECRET + rules))
                service.process.send_signal(signal.SIGHUP)
                until(lambda n=number: service.log().count("the old one goes on") == n, what=service.log()[-1000:])
            before = len(recorder.arrived)
            until(lambda: len(recorder.arrived) > before + 200, what="it does not go on")
            feed.stop()
            until(lambda: len(recorder.arrived) == feed.count, timeout=60, what="not all arrived")
            assert service.stop() == 0
            log = service.log()
        numbers = [number for number, _ in values([m.payload for m in recorder.arrived])]
    assert numbers == list(range(feed.count))
    assert set(_kinds(recorder.arrived)) == {"hashed"}
    assert log.count("local: online") == log.count("cautious: online") == 1
    assert "did you mean 'email'?" in log
    assert "none: No such file or directory" in log


def test_a_connector_that_is_added_or_changed_by_a_reload_gets_its_rules_with_it(tmp_path):
    """Also where the rules themselves stay as they were."""
    given = tmp_path / "events.jsonl"
    given.write_bytes(b"".join(event(n) + b"\n" for n in range(10)))
    hashed = '[[privacy.rules]]\nname = "addresses"\ndetect = ["email"]\naction = "hash"\nconnectors = ["cautious"]\n'
    text = configuration(1, '[privacy]\ndefault = false\nsecret = "the-first"\n' + hashed)
    text = text.replace('[connectors.local]\n    type = "mqtt"\n    url = "mqtt://127.0.0.1:1"', "")
    off = text.replace('path = "cautious.jsonl"', 'path = "cautious.jsonl"\nenabled = false')
    inside = '[connectors.inside]\ntype = "file"\npath = "inside.jsonl"\n'

    def forms() -> list[str]:
        return [form for _, form in written(tmp_path)]

    with Service(tmp_path, off + inside) as service:
        until((tmp_path / "inside.jsonl").exists, what="nothing flows")
        reload(service, text + inside, 1)
        until(lambda: len(forms()) == 10, what="the connector that is enabled now gets nothing")
        assert not any("@" in form for form in forms())

        own = text.replace('path = "cautious.jsonl"', 'path = "cautious.jsonl"\nprivacy_secret = "its-own"')
        reload(service, own + inside, 2)
        with given.open("ab") as file:
            file.write(event(10) + b"\n")
        until(lambda: len(forms()) == 11, what="it does not go on")
        assert service.stop() == 0
        assert service.log().count("inside: online") == 1
    assert len(set(forms()[:10])) == 1
    assert forms()[10] not in {forms()[0], "jane.doe@example.com"}
