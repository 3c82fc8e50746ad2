"""``northbound completion``: the script that makes a shell complete commands, options and names."""

from __future__ import annotations

import click
from click.shell_completion import get_completion_class

from northbound.cli.program import program


@click.command()
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def completion(shell: str) -> None:
    """Print the script that completes commands in a shell.

    \b
    bash:  northbound completion bash > ~/.local/share/bash-completion/completions/northbound
    zsh:   northbound completion zsh > "${fpath[1]}/_northbound"
    fish:  northbound completion fish > ~/.config/fish/completions/northbound.fish
    """  # noqa: D301 - \b keeps click from joining the lines
    found = get_completion_class(shell)
    assert found is not None  # noqa: S101 - the choices above
    click.echo(found(program, {}, "northbound", "_NORTHBOUND_COMPLETE").source())
