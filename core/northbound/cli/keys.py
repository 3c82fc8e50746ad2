"""``northbound keys``: who may sign in to the API without a token of somebody else's making."""

from __future__ import annotations

import asyncio
import logging
import sys
import time
from datetime import timedelta
from pathlib import Path
from typing import Any, Final

import click
from msgspec import structs

from northbound.admission import AuthOptions
from northbound.api.access import Rules
from northbound.api.identity import Identity, SignInRefused
from northbound.api.keyfile import KeyFile, path_beside
from northbound.api.signin import SignIn
from northbound.apikeys import ROLES, SCOPES, ApiKey, Role
from northbound.cli.output import emit, listing, note, on_terminal, say
from northbound.cli.parameters import DURATION, json_option
from northbound.cli.place import Place, placed
from northbound.cli.words import plural, when
from northbound.loading import Configuration, load_file
from northbound.registry import Registry

_LONGEST_NAME: Final = 80
_MOST_READ: Final = 65_536
_HEADINGS: Final = {"org": "organisation", "key_id": "key", "read": "sees", "publish": "publishes at"}
_DEFAULT_EXPIRY: Final = timedelta(days=365)
_DEFAULT_SCOPES: Final[dict[Role, tuple[str, ...]]] = {
    "user": ("mqtt.read",), "support": ("mqtt",), "admin": ("mqtt",)
}  # fmt: skip


@click.group()
def keys() -> None:
    """Make and revoke API keys.

    With a key an application signs in to the API: as user name or password of MQTT, or by HTTP as X-API-Key. The
    running service takes a new key at once, and ends the connections of a revoked one within seconds. All of this
    works while the service runs and while it does not.

    \b
    northbound keys create 'lobby screen' --expires 90d
    northbound keys list
    northbound keys revoke 'lobby screen'
    """  # noqa: D301 - \b keeps click from joining the lines


def _name(_ctx: click.Context, _parameter: click.Parameter, value: str) -> str:
    if not value.strip() or len(value) > _LONGEST_NAME or not value.isprintable():
        raise click.BadParameter(f"a name has 1 to {_LONGEST_NAME} characters that can be printed")
    return value


@keys.command()
@click.argument("name", callback=_name)
@click.option("--role", type=click.Choice(ROLES), default="user", show_default=True, help="What rules of access give.")
@click.option("--org", help="The organisation it sees. Default: the one of [site].")
@click.option("--every-org", is_flag=True, help="Not bound to one organisation.")
@click.option(
    "--scope", "scopes", type=click.Choice(SCOPES), multiple=True,
    help="What it is for. Default: mqtt.read for a user, mqtt (reading and writing) for the others.",
)  # fmt: skip
@click.option("--user", help="Whom it stands for in rules of access: {user}. Default: its name.")
@click.option("--expires", type=DURATION, help="How long it holds: '90d', '12h'. Default: 365d.")
@click.option("--never-expires", is_flag=True, help="It holds until it is revoked.")
@placed
@json_option
def create(
    name: str,
    role: Role,
    org: str | None,
    scopes: tuple[str, ...],
    user: str | None,
    expires: timedelta | None,
    config: str | None,
    store: str | None,
    *,
    every_org: bool,
    never_expires: bool,
    as_json: bool,
) -> int:
    """Make a key, and show it: this once, for only a hash of it is kept.

    \b
    northbound keys create 'lobby screen'
    northbound keys create integrator --role admin --expires 30d --json
    """  # noqa: D301 - \b keeps click from joining the lines
    if org is not None and every_org:
        raise click.UsageError("--org and --every-org exclude each other")
    if expires is not None and (never_expires or not expires):
        raise click.UsageError("--expires takes a time, and excludes --never-expires")
    place = Place(config, store)
    if not every_org:
        org = org or place.org
        if not org:
            raise click.UsageError("say with --org which organisation it sees, or --every-org")
    end = None if never_expires else _now() + int((expires or _DEFAULT_EXPIRY).total_seconds() * 1000)
    try:
        key, token = KeyFile(path_beside(place.path)).create(
            name,
            role=role,
            org=org,
            every_org=every_org,
            scopes=scopes or _DEFAULT_SCOPES[role],
            expires=end,
            user=user,
        )
    except ValueError as error:
        note(f"northbound: {error}")
        return 1
    if as_json:
        emit({**_row(key), "token": token})
    elif on_terminal():
        say(token, style="bold")
        note("keep it: it is not shown again. It is user name or password of MQTT, or the header X-API-Key of HTTP.")
    else:
        click.echo(token)
    return 0


@keys.command("list")
@click.option("--all", "every", is_flag=True, help="Those too that were revoked or have expired.")
@placed
@json_option
def list_(config: str | None, store: str | None, *, every: bool, as_json: bool) -> None:
    """List the keys in use, oldest first.

    \b
    northbound keys list --all --json
    """  # noqa: D301 - \b keeps click from joining the lines
    now = _now()
    found = sorted(KeyFile(path_beside(Place(config, store).path)).keys().values(), key=lambda key: key.created)
    rows = [_row(key) for key in found if every or key.holds(now)]
    if as_json:
        emit({"keys": rows})
        return
    if not rows:
        note("no API keys" + ("" if every else " in use"))
        return
    listing(
        ("id", "name", "role", "organisation", "scopes", "made", "expires", "state"),
        [
            (r["id"], r["name"], r["role"], r["org"] or ("every" if r["every_org"] else ""), " ".join(r["scopes"]),
             when(r["created"]), "never" if r["expires"] is None else when(r["expires"]), r["state"])
            for r in rows
        ],
        wrap=("name", "organisation", "scopes"),
    )  # fmt: skip


@keys.command()
@click.argument("which", metavar="ID|NAME")
@placed
@json_option
def revoke(which: str, config: str | None, store: str | None, *, as_json: bool) -> int:
    """Revoke a key; its connections end within seconds.

    \b
    northbound keys revoke 'lobby screen'
    """  # noqa: D301 - \b keeps click from joining the lines
    revoked = KeyFile(path_beside(Place(config, store).path)).revoke(which)
    if as_json:
        emit({"revoked": [_row(key) for key in revoked]})
    elif revoked:
        say(f"revoked {', '.join(f'{key.name} ({key.id})' for key in revoked)}")
    if not revoked:
        note(f"northbound: no key in use has the id or name {which!r}: 'northbound keys list' shows which there are")
    return 0 if revoked else 1


@keys.command()
@placed
@json_option
def prune(config: str | None, store: str | None, *, as_json: bool) -> None:
    """Forget the keys that were revoked or have expired.

    \b
    northbound keys prune
    """  # noqa: D301 - \b keeps click from joining the lines
    gone = KeyFile(path_beside(Place(config, store).path)).prune()
    if as_json:
        emit({"forgotten": [_row(key) for key in gone]})
    else:
        say(f"forgot {plural(len(gone), 'key')}")


@keys.command()
@click.option("--config", type=click.Path(), default="northbound.toml", show_default=True, help="The configuration.")
@json_option
def check(config: str, *, as_json: bool) -> int:
    """Say who a token or a key signs in as, and what it opens; or why it opens nothing.

    It is read from standard input, for what stands in a command line others can see. Keys that an issuer publishes are
    fetched; nothing is written.

    \b
    northbound keys check < token.txt
    """  # noqa: D301 - \b keeps click from joining the lines
    logging.getLogger("northbound").addHandler(logging.NullHandler())  # what goes wrong is said here
    configuration = load_file(Path(config), Registry())
    if configuration.api is None:
        note("northbound: there is no [api] in this configuration: nobody can sign in")
        return 1
    token = click.prompt("token or key", hide_input=True, err=True) if sys.stdin.isatty() else _read()
    try:
        who = asyncio.run(_signed_in(configuration, configuration.api.auth, token.strip()))
    except SignInRefused as error:
        for problem in getattr(error, "__notes__", ()):
            note(f"northbound: {problem}")
        if as_json:
            emit({"refused": error.reason, "words": error.words})
        else:
            note(f"northbound: refused: {error.words}")
        return 1
    read, publish = Rules(configuration.api.access, configuration.site.scheme).given(who)
    row = {**structs.asdict(who), "scopes": sorted(who.scopes), "read": read, "publish": publish}
    if as_json:
        emit(row)
        return 0
    row["expires"] = "never" if who.expires is None else when(int(who.expires * 1000))
    row["org"] = who.org or ("every one" if who.every_org else "none")
    for name in ("subject", "name", "org", "role", "scopes", "issuer", "key_id", "expires", "read", "publish"):
        value = row[name]
        shown = "  ".join(value) if isinstance(value, list | tuple) else value or ""
        say(f"{_HEADINGS.get(name, name):<15}{shown}".rstrip())
    return 0


def _read() -> str:
    try:
        return sys.stdin.read(_MOST_READ)
    except UnicodeDecodeError:
        raise click.UsageError("what stands on standard input is not text") from None


async def _signed_in(configuration: Configuration, auth: AuthOptions, shown: str) -> Identity:
    source = next((each for each in configuration.sources if each.name == auth.api_keys_from), None)
    signin = SignIn(
        auth.model_copy(update={"audit": False}),
        store=configuration.store.path,
        site_org=configuration.site.org,
        lookup=None if source is None else source.create().api_key,
    )
    try:
        return await signin.bearer({"x-api-key": shown}, address="")
    except SignInRefused as error:
        for problem in signin.tokens.problems():
            error.add_note(problem)
        raise


def _row(key: ApiKey) -> dict[str, Any]:
    state = "revoked" if key.revoked is not None else "in use" if key.holds(_now()) else "expired"
    return {
        "id": key.id, "name": key.name, "role": key.role, "org": key.org, "every_org": key.every_org,
        "scopes": list(key.scopes), "user": key.user, "created": key.created, "expires": key.expires,
        "revoked": key.revoked, "state": state,
    }  # fmt: skip


def _now() -> int:
    return time.time_ns() // 1_000_000
