"""The command ``northbound``: which commands there are, and how any of them ends.

A command's module is imported when that command is used, so that ``--help`` and completion stay fast although the
modules import what they need at their top. The summaries stand here for the same reason; a test compares them.

Exit status: 0, 1 (the thing asked about is wrong), 2 (wrong usage); 128 + n where a signal ended it.
"""

from __future__ import annotations

import difflib
import os
import signal
import sys
from collections.abc import Mapping
from importlib import import_module
from typing import Any, Final, NoReturn

import click
from click.shell_completion import CompletionItem

from northbound import ConfigurationError, NorthboundError, __version__

#: The name of each command, where it is, and what it does in one line.
COMMANDS: Final[Mapping[str, tuple[str, str]]] = {
    "run": ("northbound.cli.run:run", "Run the service."),
    "demo": ("northbound.cli.demo:demo", "Show it all on this machine: no account, no configuration."),
    "check": ("northbound.cli.check:check", "Find every problem of a configuration."),
    "preview": ("northbound.cli.preview:preview", "Show what each connector would send; nothing connects."),
    "privacy": ("northbound.cli.privacy:privacy", "Try the privacy rules, and look for personal data."),
    "compare": ("northbound.cli.compare:comparing", "Compare what two brokers retain, or a broker and a store."),
    "import": ("northbound.cli.imports:imports", "Turn another system's destinations into a configuration."),
    "connectors": ("northbound.cli.plugins:connectors", "Show which destinations can be configured, and how."),
    "sources": ("northbound.cli.plugins:sources", "Show which sources can be configured, and how."),
    "schema": ("northbound.cli.schema:schema", "Print the JSON Schema of the configuration."),
    "status": ("northbound.cli.status:status", "Show the running service: connectors, backlog, errors."),
    "tail": ("northbound.cli.tail:tail", "Show values as they change, at topics that match FILTER."),
    "deadletters": ("northbound.cli.deadletters:deadletters", "Look at what was set aside; send or drop it."),
    "keys": ("northbound.cli.keys:keys", "Make and revoke API keys."),
    "completion": ("northbound.cli.completion:completion", "Print the script that completes commands in a shell."),
}

_BROKEN_PIPE_STATUS: Final = 128 + signal.SIGPIPE
_DEBUG: Final = "NORTHBOUND_DEBUG"


class _ReaderGone(Exception):
    """Whoever read standard output has gone."""


class Program(click.Group):
    """A group that imports a command when it is used."""

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command; click itself would end with 1 where the reader of a pipe is gone."""
        try:
            return super().invoke(ctx)
        except BrokenPipeError as error:
            raise _ReaderGone from error

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - click's signature
        """Return the names in the order of the table."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002 - click's signature
        """Import the command of that name."""
        if cmd_name not in COMMANDS:
            return None
        module, _, attribute = COMMANDS[cmd_name][0].partition(":")
        command = getattr(import_module(module), attribute)
        assert isinstance(command, click.Command)  # noqa: S101 - the table above
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Name the nearest command where there is none of that name."""
        name = args[0] if args else ""
        if name not in COMMANDS and not name.startswith("-") and not ctx.resilient_parsing:
            near = difflib.get_close_matches(name, COMMANDS, n=1)
            hint = f"did you mean {near[0]!r}?" if near else f"one of {', '.join(COMMANDS)}"
            raise click.UsageError(f"No such command {name!r}: {hint}", ctx)
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002 - click's
        """Write the table without importing the commands."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, summary) for name, (_, summary) in COMMANDS.items()])

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        """Complete names without importing the commands."""
        names = [
            CompletionItem(name, help=summary) for name, (_, summary) in COMMANDS.items() if name.startswith(incomplete)
        ]
        return [*names, *click.Command.shell_complete(self, ctx, incomplete)]


def _debug(ctx: click.Context, _: click.Parameter, value: bool) -> None:  # noqa: FBT001 - click's signature
    if value and not ctx.resilient_parsing:
        os.environ[_DEBUG] = "1"


@click.group(cls=Program, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__, prog_name="northbound", message="%(prog)s %(version)s")
@click.option(
    "--debug",
    is_flag=True,
    expose_value=False,
    is_eager=True,
    callback=_debug,
    help=f"Show the traceback of an error. {_DEBUG}=1 does the same.",
)
def program() -> None:
    """Carry building state to any cloud broker.

    \b
    Try it:      northbound demo
    Set it up:   northbound connectors mqtt
                 northbound check northbound.toml --connect
    Run it:      northbound run northbound.toml

    Every command that prints data takes --json. Exit status: 0, 1 (what was asked about is wrong), 2 (wrong usage).
    """  # noqa: D301 - \b keeps click from joining the lines


def main() -> NoReturn:
    """Run the command line; never returns."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")
    try:
        status = _outcome()
        sys.stdout.flush()
    except BrokenPipeError:
        _let_go_of_stdout()
        status = _BROKEN_PIPE_STATUS
    sys.exit(status)


def _outcome() -> int:
    try:
        result: Any = program.main(prog_name="northbound", standalone_mode=False)
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except (click.Abort, KeyboardInterrupt):
        return 128 + signal.SIGINT
    except _ReaderGone as gone:
        raise BrokenPipeError from gone
    except Exception as error:  # noqa: BLE001, RUF100 - a person gets a sentence, never a traceback
        if os.environ.get(_DEBUG):
            raise
        for line in _sentences(error):
            click.echo(line, err=True)
        return 1
    return result if isinstance(result, int) else 0


def _sentences(error: Exception) -> list[str]:
    """Return what a person is told."""
    if isinstance(error, ConfigurationError):
        lines = [_one_line(str(problem)) for problem in error.problems]
        return [*lines, f"northbound: {len(lines)} problem{'s' if len(lines) != 1 else ''} in the configuration"]
    if isinstance(error, NorthboundError):
        return [f"northbound: {_one_line(str(error))}"]
    if isinstance(error, OSError) and error.strerror:
        where = f"{error.filename}: " if error.filename else ""
        return [f"northbound: {_one_line(where + error.strerror)}: check the path and its permissions"]
    words = _one_line(f"{type(error).__name__}: {error}")
    return [f"northbound: a defect of northbound: {words} (report it with what --debug shows)"]


def _one_line(text: str) -> str:
    return " ".join(text.split())


def _let_go_of_stdout() -> None:
    """Give the interpreter something it can flush at its end."""
    devnull = os.open(os.devnull, os.O_WRONLY)
    os.dup2(devnull, sys.stdout.fileno())
    os.close(devnull)
