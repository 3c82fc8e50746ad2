"""Which store a command is about: of a configuration, or named itself."""

from __future__ import annotations

import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click
import pydantic

from northbound.config import StoreOptions
from northbound.loading import load_file
from northbound.registry import Registry

_DEFAULT_CONFIG = "northbound.toml"
F = TypeVar("F", bound=Callable[..., Any])


class Place:
    """Which store is meant; which connectors its service has and of which organisation it is, where that is known."""

    def __init__(self, config: str | None, store: str | None) -> None:
        if config is not None and store is not None:
            raise click.UsageError("--config and --store both name the store: give one of them")
        self.connectors: set[str] | None = None
        self.org: str | None = None
        if store is not None:
            self.path = Path(store)
            return
        path = Path(config or _DEFAULT_CONFIG)
        if config is None and not path.exists():
            raise click.UsageError(f"no {_DEFAULT_CONFIG} here: name one with --config, or the store with --store")
        self._read(path)

    def _read(self, path: Path) -> None:
        """Take what is needed and no more: the secrets of the connectors may not be at hand in this shell."""
        try:
            tree = tomllib.loads(path.read_text(encoding="utf-8"))
            options, org = tree.get("store", {}), tree.get("site", {}).get("org")
            if "${" in f"{options}{org}":
                raise ValueError("its references are for the loader")  # noqa: TRY301
            if not isinstance(org, str | None):
                raise TypeError("an organisation is a text")  # noqa: TRY301
            found = StoreOptions.model_validate(options, context={"base": path.parent})
            self.connectors, self.org = set(tree.get("connectors", {})), org
        except (OSError, ValueError, TypeError, AttributeError, RecursionError, pydantic.ValidationError):
            configuration = load_file(path, Registry())  # says in words what is wrong
            found = configuration.store
            self.connectors = {connector.name for connector in configuration.connectors}
            self.org = configuration.site.org
        self.path = found.path


def placed(command: F) -> F:
    """Give a command the options ``--config`` and ``--store``."""
    command = click.option("--store", type=click.Path(), help="The store itself, where no configuration is at hand.")(
        command
    )
    return click.option(
        "--config", type=click.Path(), help=f"The configuration that names the store. Default: {_DEFAULT_CONFIG}."
    )(command)
