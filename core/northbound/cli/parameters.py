"""Arguments and options that several commands have."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import click

from northbound.fields import parse_duration

json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON, for programs.")
config_argument = click.argument("config", type=click.Path(dir_okay=False), default="northbound.toml")


class _Duration(click.ParamType[timedelta]):
    name = "duration"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> timedelta:
        if isinstance(value, timedelta):
            return value
        try:
            found = parse_duration(float(value) if value.replace(".", "", 1).isdigit() else value)
        except ValueError as error:
            self.fail(str(error), param, ctx)
        assert isinstance(found, timedelta)  # noqa: S101 - what parse_duration returns for text and numbers
        return found


#: ``20s``, ``1m30s``, or a number of seconds.
DURATION = _Duration()
