"""Secrets of hashes end to end: a rotation with its overlap, joins, and the secret made beside the store."""

from __future__ import annotations

import hmac
import json
import re
import stat
import time
from datetime import UTC, datetime, timedelta

from tests.support.mosquitto import Mosquitto
from tests.support.service import Service, until
from tests.support.subscriber import retained

PERSON = "jane.doe@example.com"
HASH = r"[0-9a-f]{4}-[0-9a-f]{32}"


def hashed(secret: str, text: str = PERSON) -> str:
    key = hmac.digest(secret.encode(), b"northbound privacy key id", "sha256").hex()[:4]
    return f"{key}-{hmac.digest(secret.encode(), text.encode(), 'sha256').hex()[:32]}"


def state(module: str, key: str, value: object) -> bytes:
    return json.dumps(
        {"kind": "state", "org": "o", "building": "b", "system": "s", "driver": "d", "module": module, "index": 1,
         "state": key, "value": value}
    ).encode()  # fmt: skip


def metadata(name: str, entity: object) -> bytes:
    return json.dumps({"kind": "metadata", "org": "o", "id": name, "metadata": entity}).encode()


def value(payload: bytes) -> object:
    return json.loads(json.loads(payload)["value"])


def configuration(port: int, privacy: str = "") -> str:
    return f"""
    {privacy}
    [sources.in]
    type = "jsonl"
    path = "-"
    [connectors.local]
    type = "mqtt"
    url = "mqtt://127.0.0.1:{port}"
    """


def run(service: Service, *events: bytes) -> None:
    done = service.once(b"\n".join(events))
    assert done.returncode == 0, done.stderr
    assert PERSON.encode() not in done.stdout + done.stderr


def desk(who: str) -> str:
    return f"placeos/o/state/b/_/_/s/d/Desks/1/{who}"


def test_in_a_rotation_values_carry_both_hashes_and_old_topics_are_cleared(tmp_path):
    old, new = "the-first-secret-of-all", "the-second-one"
    events = [
        state("Desks", PERSON, {"by": PERSON}),
        state("Desks", "quiet@example.com", 1),
        metadata(PERSON, {"name": "Jane", "mail": PERSON}),
    ]
    with Mosquitto(tmp_path) as broker:
        service = Service(tmp_path, configuration(broker.port, f'[privacy]\nsecret = "{old}"'))
        run(service, *events)
        before = retained(broker.port)
        quiet = desk(hashed(old, "quiet@example.com"))
        described = "placeos/o/metadata/{}".format
        assert before.keys() == {desk(hashed(old)), quiet, described(hashed(old))}
        assert value(before[desk(hashed(old))]) == {"by": hashed(old)}

        rotating = f'[privacy]\nsecret = "{new}"\nprevious_secret = "{old}"\noverlap_until = '
        service.config.write_text(configuration(broker.port, rotating + "2999-01-01"))
        run(service, events[0], events[2])
        during = retained(broker.port)
        # The one that had no new value stands where it stood.
        assert during.keys() == {desk(hashed(new)), quiet, described(hashed(new))}
        assert value(during[desk(hashed(new))]) == {"by": f"{hashed(new)}~{hashed(old)}"}
        assert json.loads(during[described(hashed(new))])["mail"] == f"{hashed(new)}~{hashed(old)}"

        service.config.write_text(configuration(broker.port, rotating + "2026-01-01"))
        run(service, events[0], events[2])
        after = retained(broker.port)
        assert after.keys() == during.keys()
        assert value(after[desk(hashed(new))]) == {"by": hashed(new)}
        assert json.loads(after[described(hashed(new))])["mail"] == hashed(new)


def test_an_overlap_ends_by_itself_while_the_service_runs(tmp_path):
    given, out = tmp_path / "events.jsonl", tmp_path / "out.jsonl"
    given.write_bytes(b"")
    # Whole seconds: time enough for a slow machine to start and to send the first value.
    end = datetime.now(UTC) + timedelta(seconds=8)
    text = f"""
    [privacy]
    secret = "bbbb"
    previous_secret = "aaaa"
    overlap_until = {end.isoformat()}
    [sources.in]
    type = "jsonl"
    path = "events.jsonl"
    follow = true
    [connectors.out]
    type = "file"
    path = "out.jsonl"
    """

    def written() -> list[object]:
        whole = out.read_text().rpartition("\n")[0] if out.exists() else ""  # the last line may be under way
        rows = [json.loads(line) for line in whole.splitlines()]
        return [json.loads(json.loads(row["payload"])["value"]) for row in rows if row["payload"]]

    with Service(tmp_path, text) as service:
        with given.open("ab") as file:
            file.write(state("Desks", "by", PERSON) + b"\n")
        until(lambda: len(written()) == 1, what="the first value")
        assert datetime.now(UTC) < end, "this machine is too slow for the test"
        time.sleep(max(0.0, (end - datetime.now(UTC)).total_seconds()) + 0.1)
        with given.open("ab") as file:
            file.write(state("Desks", "by", PERSON) + b"\n")
        until(lambda: len(written()) == 2, what="the second value")
        assert service.stop() == 0
    assert written() == [f"{hashed('bbbb')}~{hashed('aaaa')}", hashed("bbbb")]


def test_one_person_is_one_hash_everywhere_and_after_a_restart(tmp_path):
    with Mosquitto(tmp_path) as broker:
        service = Service(tmp_path, configuration(broker.port))
        first = service.once(
            b"\n".join(
                [
                    state("Desks", "by", {"who": PERSON}),
                    state("Bookings", "host", "meeting with Jane.Doe@Example.com at noon"),
                    metadata("zone-1", {"name": "Desk 1", "owner": PERSON}),
                ]
            )
        )
        assert first.returncode == 0, first.stderr
        secret = tmp_path / "northbound.db.privacy-secret"
        assert stat.S_IMODE(secret.stat().st_mode) == 0o600
        made = secret.read_text()
        assert f"a privacy secret was made at {secret}".encode() in first.stderr
        assert made.strip().encode() not in first.stderr + first.stdout

        second = service.once(state("Lockers", "by", [PERSON.upper()]))
        assert second.returncode == 0, second.stderr
        assert b"privacy secret" not in second.stderr
        assert secret.read_text() == made
        kept = retained(broker.port)
    found = [re.findall(HASH, payload.decode()) for payload in kept.values()]
    assert found == [[hashed(made.strip())]] * 4


def test_a_secret_that_others_may_read_is_refused(tmp_path):
    with Mosquitto(tmp_path) as broker:
        service = Service(tmp_path, configuration(broker.port))
        run(service, state("Desks", "by", PERSON))
        (tmp_path / "northbound.db.privacy-secret").chmod(0o644)
        done = service.once(state("Desks", "by", PERSON))
    assert done.returncode == 1
    assert b"chmod 600" in done.stderr
