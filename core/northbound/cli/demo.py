"""``northbound demo``: everything on one machine, with no account, and the proof that nothing was lost."""

from __future__ import annotations

import asyncio
import io
import logging
import signal
import sys
import tempfile
import time
from contextlib import ExitStack
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click
from msgspec import Struct, structs
from rich.live import Live
from rich.text import Text

from northbound import NorthboundError
from northbound.api.keyfile import KeyFile, path_beside
from northbound.cli import broker, logs, proof
from northbound.cli.clouds import Clouds
from northbound.cli.live import LiveView, PlainView
from northbound.cli.output import console, emit, note, on_terminal, say
from northbound.cli.parameters import DURATION, json_option
from northbound.cli.service import Service, run_loop
from northbound.cli.summary import acted
from northbound.config import SiteOptions
from northbound.loading import load_text
from northbound.registry import Registry
from northbound.runtime import Runtime
from northbound.status import Status

if TYPE_CHECKING:
    from northbound.api.service import Api

_ELSEWHERE_SECONDS: Final = 20.0
_STORE: Final = "northbound.db"
_SENT: Final = "sent.jsonl"
_CLOUDS: Final = "clouds"
_LARGEST_DRAWN_LOG: Final = 1_048_576

_ORG: Final = "org-campus"

_CONFIGURATION = """\
# A simulated campus, delivered to a file and to a Mosquitto on this machine, and served to applications.

[store]
path = "{store}"

[service]
log_level = "warning"

[api]
listen = "127.0.0.1:{http}"           # the dashboard, /api/…, and MQTT over WebSocket at /api/mqtt/
mqtt_listen = "127.0.0.1:0"           # MQTT without WebSocket

[sources.campus]
type = "simulator"
org = "{org}"
rate = {rate:g}                       # changes a second

[connectors.file]
type = "file"
path = "{sent}"
max_bytes = "256 MiB"
"""
_BROKER = """
[connectors.mosquitto]
type = "mqtt"
url = "mqtt://127.0.0.1:{port}"
"""


class _Demo(Struct):
    """What one demo has: its folder, its broker's port where there is one, its configuration, a token for each role."""

    folder: Path
    port: int | None
    text: str
    duration: float | None
    reader: str
    admin: str
    clouds: Clouds | None = None

    @property
    def sent(self) -> Path:
        return self.folder / _SENT

    def invitation(self, api: Api) -> list[tuple[str, str]]:
        """Return how to look at it: with what, and the address or command."""
        (http, *_), (mqtt, *_) = api.addresses, api.mqtt_addresses
        look = f"-u {self.reader} -t 'placeos/#' -v"
        return [
            ("dashboard, as admin", f"{api.url}/#token={self.admin}"),
            ("dashboard, as reader", f"{api.url}/#token={self.reader}"),
            ("a reader's token", self.reader),
            ("an admin's token", self.admin),
            ("with Mosquitto", f"mosquitto_sub -h 127.0.0.1 -p {mqtt.port} {look}"),
            ("with MQTT.js", f"npx mqtt sub -l ws -h 127.0.0.1 -p {http.port} --path /api/mqtt/ {look}"),
            ("with northbound", f"northbound tail --store {self.folder / _STORE}"),
        ]


@click.command()
@click.option("--duration", type=DURATION, help="End after so long. Default: at Ctrl-C on a terminal, 20 s elsewhere.")
@click.option(
    "--rate",
    type=click.FloatRange(0.1, 100_000),
    default=200,
    show_default=True,
    help="Changes a second on the campus.",
)
@click.option(
    "--twins", is_flag=True, help="Also into AWS IoT Core, Azure IoT Hub and Pub/Sub, as twins on this machine."
)
@click.option(
    "--port",
    "http",
    type=click.IntRange(0, 65_535),
    default=0,
    help="Where the dashboard listens on this machine. Default: a free one.",
)
@click.option("--dir", "folder", type=click.Path(file_okay=False), help="Keep the files here. Default: none is kept.")
@click.option("--show-config", is_flag=True, help="Print the configuration that the demo runs, and end.")
@json_option
def demo(
    duration: timedelta | None,
    rate: float,
    http: int,
    folder: str | None,
    *,
    twins: bool,
    show_config: bool,
    as_json: bool,
) -> int:
    """Show it all on this machine: no account, no configuration.

    A simulated campus goes through the engine and the store into a file and into a Mosquitto that the demo starts for
    itself, where that is installed; with --twins also, by the clouds' own SDKs, into local servers that behave as the
    clouds do, their sign-in and their limits included. The dashboard shows it, and any MQTT client may look: the demo
    prints where, with a token each for a reader and an admin. At the end it counts: what was accepted, what each
    destination acknowledged, what the file, the broker and the twins really hold. The status is 0 only if all of it
    agrees.

    \b
    northbound demo
    northbound demo --twins
    northbound demo --duration 20s --rate 1000 --dir ./demo
    """  # noqa: D301 - \b keeps click from joining the lines
    if show_config:
        click.echo(_configuration(rate, broker.free_port(), http), nl=False)
        return 0
    # Outside the event loop, too, what was begun is to be ended: the broker, the folder.
    signal.signal(signal.SIGTERM, _interrupt)
    seconds = duration.total_seconds() if duration is not None else None if on_terminal() else _ELSEWHERE_SECONDS
    with ExitStack() as stack:
        if folder is None:
            path = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="northbound-demo-")))
        else:
            path = Path(folder)
            _prepare(path)
        registry = Registry()
        port = _start_broker(stack, registry, path)
        clouds = _start_clouds(stack, registry, path) if twins else None
        text = _configuration(rate, port, http) + (clouds.text if clouds is not None else "")
        reader, admin = _make_keys(path / _STORE)
        plan = _Demo(path, port, text, seconds, reader, admin, clouds)
        return _run(plan, registry, as_json=as_json, kept=folder is not None)


def _interrupt(number: int, _: object) -> None:
    sys.exit(128 + number)


def _make_keys(store: Path) -> tuple[str, str]:
    """Return a reader's and an admin's token."""
    keys = KeyFile(path_beside(store))
    _, reader = keys.create("reader", role="user", org=_ORG, scopes=("mqtt.read",))
    _, admin = keys.create("admin", role="admin", org=_ORG, scopes=("mqtt",))
    return reader, admin


def _configuration(rate: float, port: int | None, http: int) -> str:
    text = _CONFIGURATION.format(store=_STORE, sent=_SENT, rate=rate, org=_ORG, http=http)
    return text if port is None else text + _BROKER.format(port=port)


def _prepare(path: Path) -> None:
    path.mkdir(parents=True, exist_ok=True)
    for name in (_STORE, _SENT, _CLOUDS, "mosquitto"):
        if (path / name).exists():
            raise NorthboundError(f"{path} holds {name} of an earlier demo: name an empty folder, or a new one")


def _start_broker(stack: ExitStack, registry: Registry, path: Path) -> int | None:
    program = broker.find()
    row = registry.find("connector", "mqtt")
    if program is None:
        note("Mosquitto is not installed (Debian: apt install mosquitto): the demo goes without a broker")
    elif row is None or row.implementation is None:
        note(
            f"the mqtt connector does not load: {row.error if row else 'it is not installed'}: the demo goes without it"
        )
    else:
        return stack.enter_context(broker.Broker(program, path / "mosquitto")).port
    return None


def _start_clouds(stack: ExitStack, registry: Registry, path: Path) -> Clouds:
    clouds = Clouds(registry, path / _CLOUDS)
    for words in clouds.missing:
        note(words)
    return stack.enter_context(clouds)


def _run(plan: _Demo, registry: Registry, *, as_json: bool, kept: bool) -> int:
    configuration = load_text(plan.text, registry, name="the demo's configuration", base=plan.folder)
    drawn = on_terminal() and not as_json and not console().is_dumb_terminal
    runtime = Runtime(configuration)
    logs.configure(configuration.service, runtime.shareable)
    # That a secret was made for an hour's hashes is no news here.
    logging.getLogger("northbound.protection").setLevel(logging.ERROR)
    words = io.StringIO()
    if drawn:  # what is logged would break the picture: it is told at the end
        logging.getLogger().handlers[0].setStream(words)  # type: ignore[attr-defined]
    checks: list[proof.Check] = []
    forced: int | None = None

    async def main() -> None:
        nonlocal forced
        service = Service(runtime)
        await service.run(lambda service: _watch(service, plan, drawn=drawn, err=as_json))
        signal.signal(signal.SIGTERM, _interrupt)  # the service took it, and gave it back to the system
        forced = service.forced
        if forced is None and runtime.final is not None:
            checks.extend(await _prove(plan, runtime.final, configuration.site))

    run_loop(main)
    click.echo(words.getvalue()[-_LARGEST_DRAWN_LOG:], nl=False, err=True)
    if forced is not None or runtime.final is None:
        return 128 + (forced or signal.SIGTERM)
    if as_json:
        emit(proof.told(runtime.final, checks))
    else:
        _tell(plan, runtime.final, checks, kept=kept)
    return 0 if all(check.ok for check in checks) else 1


async def _watch(service: Service, plan: _Demo, *, drawn: bool, err: bool) -> None:
    """Show the present, and stop the service when it is time."""
    began = time.monotonic()
    api = service.runtime.api
    assert api is not None  # noqa: S101 - the configuration above
    _invite(plan.invitation(api), err=err)
    if not drawn:
        view = PlainView(err=err)
        click.echo("a simulated campus runs", err=err)
        await _each(service, plan, began, view.seconds, view.show)
        return
    live = LiveView(duration=plan.duration, sent=plan.sent, hint=f"the dashboard: {api.url}")
    with Live(console=console(), auto_refresh=False, transient=True) as screen:

        def show(status: Status, elapsed: float) -> None:
            screen.update(live.draw(status, elapsed), refresh=True)

        await _each(service, plan, began, live.seconds, show)


def _invite(lines: list[tuple[str, str]], *, err: bool) -> None:
    """Say how to look at it; each line ready to be copied whole."""
    for what, how in lines:
        if on_terminal() and not err:
            console().print(Text(f"{what:<21}", style="dim") + Text(how), soft_wrap=True)
        else:
            click.echo(f"{what:<21}{how}", err=err)


async def _each(service: Service, plan: _Demo, began: float, pause: float, show: object) -> None:
    assert callable(show)  # noqa: S101 - one of the two above
    while service.runtime.final is None:
        elapsed = time.monotonic() - began
        show(service.runtime.status(), elapsed)
        rest = pause
        if plan.duration is not None and not service.stopping:
            if elapsed >= plan.duration:
                service.stop()
            else:
                rest = min(pause, plan.duration - elapsed)
        await asyncio.sleep(rest)


async def _prove(plan: _Demo, final: Status, site: SiteOptions) -> list[proof.Check]:
    checks = proof.compare_sums(final)
    acknowledged = {connector.name: connector.counters.acknowledged for connector in final.connectors}
    content = await asyncio.to_thread(proof.read_file, plan.sent)
    if content is not None:
        checks.append(proof.compare_file(content, acknowledged["file"]))
    behind = any(connector.backlog for connector in final.connectors)
    if plan.port is not None:
        checks.append(await proof.compare_broker(plan.port, None if behind else content))
    if plan.clouds is not None:
        newest = None if behind else content
        checks += await asyncio.to_thread(plan.clouds.compare, site, acknowledged, newest)
    return checks


def _tell(plan: _Demo, final: Status, checks: list[proof.Check], *, kept: bool) -> None:
    say(f"northbound demo: {final.uptime:.0f} s", style="bold")
    for check in checks:
        if on_terminal():
            mark = Text("✓ " if check.ok else "✗ ", style="green" if check.ok else "bold red")
            console().print(mark.append(check.words, style="default not bold"))
        else:
            say(f"{'ok' if check.ok else 'WRONG':<6}{check.words}")
    for rule in final.rules:
        if rule.acted:
            say(acted(structs.asdict(rule)), style="dim")
    if all(check.ok for check in checks):
        say("Nothing was lost: the sums agree.", style="green")
    else:
        say("The sums do not agree.", style="bold red")
    if kept:
        say(f"What was sent: {plan.sent}; the store: {plan.folder / _STORE}")
    else:
        stopped = "" if plan.port is None else ", the broker is stopped"
        say(f"The files are removed{stopped}; --dir keeps the files.", style="dim")
