"""``northbound run``: the service."""

from __future__ import annotations

import logging
import signal
from pathlib import Path

import click
import msgspec

from northbound import __version__
from northbound.cli import logs
from northbound.cli.parameters import config_argument, json_option
from northbound.cli.policy import protects_nothing, sentence
from northbound.cli.service import Service, run_loop
from northbound.cli.summary import sentences, summary
from northbound.cli.words import clean
from northbound.loading import Configuration, load_file
from northbound.registry import Registry
from northbound.runtime import Runtime

log = logging.getLogger(__name__)


@click.command()
@config_argument
@click.option("--once", is_flag=True, help="End when finite sources are read and everything is delivered.")
@json_option
def run(config: str, *, once: bool, as_json: bool) -> int:
    """Run the service.

    Reads the sources, stores what they say, and delivers it to every connector. The log goes to standard error as
    [service] log_level and log_format say, after the privacy rules; a summary to standard output at the end.

    SIGTERM and Ctrl-C stop taking in, deliver for [service] drain at most, and end; a second one ends at once. What is
    not delivered stays in the store. SIGHUP reloads CONFIG without touching connectors that did not change.

    With --once the status is 0 when everything was read and delivered or set aside, else 1.

    \b
    northbound run northbound.toml
    northbound run --once --json export.toml
    """  # noqa: D301 - \b keeps click from joining the lines
    registry = Registry()
    path = Path(config)
    configuration = load_file(path, registry)
    runtime = Runtime(configuration)
    logs.configure(configuration.service, runtime.shareable)

    def load() -> Configuration:
        found = load_file(path, registry)
        logs.configure(found.service, runtime.shareable)
        return found

    service: Service | None = None

    async def main() -> None:
        nonlocal service
        service = Service(runtime, load=load, once=once)
        await service.run(_report)

    run_loop(main)
    if runtime.final is not None:
        told = summary(runtime.final, runtime.initial)
        for row in (*told["sources"], *told["connectors"]):
            if row["error"]:
                row["error"] = runtime.shareable(row["error"])
        for line in [msgspec.json.encode(told).decode()] if as_json else map(clean, sentences(told)):
            click.echo(line)
    return _status(service, runtime, once=once)


def _status(service: Service | None, runtime: Runtime, *, once: bool) -> int:
    if service is not None and service.forced is not None:
        return 128 + signal.Signals(service.forced)
    failed = runtime.failed_sources
    for words in failed:
        click.echo(f"northbound: {clean(runtime.shareable(words))}", err=True)
    return 1 if once and (failed or runtime.undelivered) else 0


async def _report(service: Service) -> None:
    """Say what runs, once it does."""
    status = service.runtime.status()
    log.info(
        "northbound %s runs %s; store %s holds %d messages",
        __version__,
        service.runtime.configuration.path,
        status.store.path,
        status.store.log_messages,
    )
    configuration = service.runtime.configuration
    if protects_nothing(configuration):
        log.warning("privacy: no rule is in force: everything leaves as it is")
    else:
        log.info("privacy: %s", sentence(configuration))
    for source in status.sources:
        log.info("reading %s (%s: %s)", source.name, source.type, source.origin)
    for connector in status.connectors:
        log.info(
            "delivering to %s (%s: %s), %d waiting",
            connector.name,
            connector.type,
            connector.destination,
            connector.backlog,
        )
