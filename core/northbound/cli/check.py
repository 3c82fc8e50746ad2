"""``northbound check``: every problem of a configuration at once, and whether its destinations answer."""

from __future__ import annotations

import asyncio
import socket
import ssl
import time
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Final

import click
from msgspec import Struct, structs
from rich.text import Text

from northbound import ConfigurationError, Connector, DeliveryError, NotConnected, Problem, Rejected, Unauthorised
from northbound.administration import is_running
from northbound.admission import IssuerOptions
from northbound.api.jwks import JwksError, fetch
from northbound.cli import exposure, policy
from northbound.cli.advice import warnings
from northbound.cli.output import console, emit, note, on_terminal, say
from northbound.cli.parameters import DURATION, config_argument, json_option
from northbound.cli.words import clean, holds, plural
from northbound.loading import Configuration, ConnectorInstance, load_file
from northbound.registry import Registry
from northbound.status import CredentialStatus

_CLOSE_SECONDS: Final = 5.0
#: How long a connection is watched: whoever has lost it to us is back by then, and ends ours.
_WATCHED_SECONDS: Final = 1.5


class Answer(Struct, frozen=True):
    """What one destination answered."""

    name: str
    type: str
    destination: str
    ok: bool
    seconds: float
    error: str | None = None
    cause: str | None = None
    told: tuple[str, ...] = ()
    credentials: tuple[CredentialStatus, ...] = ()


@click.command()
@config_argument
@click.option(
    "--connect",
    is_flag=True,
    help="Also open each destination, ask it what may be sent, and close it. Nothing is sent.",
)
@click.option(
    "--timeout", type=DURATION, default="15s", show_default=True, help="With --connect: how long one may take."
)
@json_option
def check(config: str, timeout: timedelta, *, connect: bool, as_json: bool) -> int:
    """Find every problem of a configuration.

    Each is reported with file, key and remedy; warnings do not change the exit status. With --connect the
    destinations are tried as well: what was tried, what it answered, how long that took, and the likely cause. So are
    the addresses where issuers of tokens publish their keys.

    Trying signs in with the service's own id, as the service will. Where it runs already, most brokers end its
    connection for a moment; it comes back by itself, and what waits meanwhile is delivered then.

    \b
    northbound check northbound.toml
    northbound check northbound.toml --connect --timeout 5s
    """  # noqa: D301 - \b keeps click from joining the lines
    seconds = timeout.total_seconds()
    configuration: Configuration | None = None
    problems: tuple[Problem, ...] = ()
    try:
        configuration = load_file(Path(config), Registry())
    except ConfigurationError as error:
        problems = error.problems
    found = warnings(Path(config), configuration)
    answers: list[Answer] = []
    if not as_json:
        _report(config, problems, found, configuration)
    if connect and configuration is not None:
        running = is_running(configuration.store.path)
        if running:
            note(
                "the service runs with this store: a destination that allows one connection for each client id will "
                "hang up on it for a moment, and a file that it writes is locked"
            )
        answers = asyncio.run(_try_all(configuration, seconds, running=running, quiet=as_json))
    elif connect and not as_json:
        note("nothing was connected to: the configuration must load first")
    bad = bool(problems) or not all(answer.ok for answer in answers)
    if as_json:
        emit(
            {
                "file": config,
                "ok": not bad,
                "problems": [problem._asdict() for problem in problems],
                "warnings": [problem._asdict() for problem in found],
                "privacy": policy.told(configuration) if configuration is not None else None,
                "destinations": [structs.asdict(answer) for answer in answers] if connect else None,
            }
        )
    return 1 if bad else 0


def _report(
    config: str, problems: tuple[Problem, ...], found: list[Problem], configuration: Configuration | None
) -> None:
    for word, style, lines in (("error", "bold red", problems), ("warning", "yellow", found)):
        for problem in lines:
            if on_terminal():
                line = Text(f"{word}: ", style=style)
                console().print(line.append(clean(str(problem)), style="default not bold"), soft_wrap=True)
            else:
                click.echo(f"{word}: {clean(str(problem))}")
    if configuration is None:
        say(f"{config}: {plural(len(problems), 'problem')}", style="red")
        return
    sources = ", ".join(f"{s.name} ({s.plugin.type_name})" for s in configuration.sources) or "none"
    connectors = ", ".join(f"{c.name} ({c.plugin.type_name})" for c in configuration.connectors) or "none"
    say(f"{config}: no problems", style="green")
    say(f"  sources     {sources}")
    say(f"  connectors  {connectors}")
    say(f"  store       {configuration.store.path}")
    say(f"  privacy     {policy.sentence(configuration)}")
    if configuration.api is not None:
        say(f"  API         {exposure.sentence(configuration.api)}")


async def _try_all(configuration: Configuration, seconds: float, *, running: bool, quiet: bool) -> list[Answer]:
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(_try(instance, seconds, running=running)) for instance in configuration.connectors]
        issuers = {} if configuration.api is None else configuration.api.auth.issuers
        tasks += [
            group.create_task(_try_keys(name, issuer.jwks_url, issuer, seconds))
            for name, issuer in issuers.items()
            if issuer.jwks_url is not None
        ]
        if not quiet:
            for task in asyncio.as_completed(tasks):
                _report_answer(await task)
    return [task.result() for task in tasks]


async def _try(instance: ConnectorInstance, seconds: float, *, running: bool) -> Answer:
    """Open one destination, see whether the connection lasts, and close it."""
    started = time.monotonic()
    error: Exception | None = None
    lost: Exception | None = None
    destination = instance.name
    connector: Connector | None = None
    told: list[str] = []
    try:
        connector = instance.create()
        connector.tell = told.append  # type: ignore[method-assign,assignment] # of this one alone
        destination = connector.destination
        async with asyncio.timeout(seconds):
            await connector.open()
            await connector.probe()
    except Exception as raised:  # noqa: BLE001 - a third party's connector may raise anything
        error = raised
    took = round(time.monotonic() - started, 3)
    if connector is not None:
        if error is None:
            lost = await _lost(connector)
        if running and lost is not None:
            told.append(f"then hung up, since the service that runs signed in again: {_words(lost, seconds)}")
            lost = None
        error = error or lost
        try:
            async with asyncio.timeout(_CLOSE_SECONDS):
                await connector.close()
        except Exception as raised:  # noqa: BLE001 - a third party's connector may raise anything
            error = error or raised
    answer = Answer(
        instance.name,
        instance.plugin.type_name,
        destination,
        ok=error is None,
        seconds=took,
        told=tuple(told),
        credentials=() if connector is None else _credentials(connector),
    )
    if error is None:
        return answer
    own = None if connector is None else _explained(connector, error)
    if error is lost:
        words = f"it answers, and ends the connection: {_words(error, seconds)}"
        return structs.replace(answer, error=words, cause=own or _cause(error) or _RIVAL)
    return structs.replace(answer, error=_words(error, seconds), cause=own or _cause(error))


async def _lost(connector: Connector) -> Exception | None:
    """Watch an open connection for a moment; returns why it is lost, if it is."""
    if type(connector).lost is Connector.lost:  # it has none
        return None
    try:
        async with asyncio.timeout(_WATCHED_SECONDS):
            await connector.lost()
    except TimeoutError:
        return None
    except Exception as raised:  # noqa: BLE001 - a third party's connector may raise anything
        return raised
    return NotConnected("the connection was lost")


async def _try_keys(name: str, url: str, issuer: IssuerOptions, seconds: float) -> Answer:
    """Fetch the keys that an issuer of tokens publishes."""
    started = time.monotonic()
    error: str | None = None
    told: tuple[str, ...] = ()
    try:
        async with asyncio.timeout(seconds):
            keys = await fetch(url, issuer.jwks_ca, issuer.algorithms)
    except JwksError as raised:
        error = str(raised)
    except TimeoutError:
        error = f"no answer within {seconds:g} s"
    else:
        told = tuple(f"key {key.id or 'without an id'}: {', '.join(sorted(key.algorithms))}" for key in keys)
    took = round(time.monotonic() - started, 3)
    where = f"api.auth.issuers.{name}"
    return Answer(where, "keys of an issuer", url, ok=error is None, seconds=took, error=error, told=told)


def _credentials(connector: Connector) -> tuple[CredentialStatus, ...]:
    try:
        return tuple(CredentialStatus.of(credential) for credential in connector.credentials())
    except Exception:  # noqa: BLE001 - a third party's connector may raise anything; there is nothing to tell then
        return ()


def _explained(connector: Connector, error: Exception) -> str | None:
    try:
        return connector.explain(error)
    except Exception:  # noqa: BLE001 - a third party's connector may raise anything; the error itself is told
        return None


def _words(error: Exception, seconds: float) -> str:
    if isinstance(error, DeliveryError):
        return str(error)
    if isinstance(error, TimeoutError):
        return f"no answer within {seconds:g} s"
    return f"the connector failed: {type(error).__name__}: {error}"


_RIVAL: Final = (
    "another client signs in with the same id, the service itself where it runs elsewhere: give each its own"
)
#: The likely cause in words, by what stands in the chain of errors; the first that fits is told.
_CAUSES: Final[tuple[tuple[type[BaseException], str], ...]] = (
    (
        ssl.SSLCertVerificationError,
        "the destination's certificate is not trusted here, or is for another name: set ca, check the host",
    ),
    (ssl.SSLError, "the two do not agree on TLS: check the port, and that it expects TLS"),
    (socket.gaierror, "the name is not known: check the host, and the DNS of this machine"),
    (
        ConnectionRefusedError,
        "the machine answers but nothing listens there: check the port, and that the service is up",
    ),
    (
        Unauthorised,
        "it answers and refuses the credentials: check user name, password or certificate, and that they still hold",
    ),
    (Rejected, "it refuses what this configuration asks for"),
    (TimeoutError, "a firewall drops the packets, or the address is wrong"),
)


def _cause(error: Exception) -> str | None:
    """Return the likely cause in words, where the kind of error tells one."""
    chain = [*_chain(error)]
    for kind, words in _CAUSES:
        if any(isinstance(found, kind) for found in chain):
            return words
    return None if isinstance(error, DeliveryError) else "a defect of the connector: report it to its package"


def _chain(error: BaseException) -> Iterator[BaseException]:
    seen: set[int] = set()
    found: BaseException | None = error
    while found is not None and id(found) not in seen:
        seen.add(id(found))
        yield found
        found = found.__cause__ or found.__context__


def _report_answer(answer: Answer) -> None:
    took = f"{answer.seconds * 1000:.0f} ms" if answer.seconds < 1 else f"{answer.seconds:.1f} s"
    what = f"{answer.name}: {answer.destination} ({answer.type})"
    if answer.ok:
        say(f"{what}: answers, after {took}", style="green")
    else:
        say(f"{what}: failed after {took}: {answer.error}", style="red")
    for words in answer.told:
        say(f"  {clean(words)}")
    for credential in answer.credentials:
        if (left := holds(credential)) is not None:
            say(f"  {left}")
    if answer.cause:
        say(f"  likely cause: {answer.cause}")
