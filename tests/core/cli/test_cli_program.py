"""How the command line as a whole behaves: help, errors, pipes, completion."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time

import click
import pytest

from northbound.cli import program as module
from northbound.cli.program import COMMANDS, program

CONTEXT = click.Context(program, info_name="northbound")


def commands():
    for name in COMMANDS:
        command = program.get_command(CONTEXT, name)
        yield f"northbound {name}", command
        for below in getattr(command, "commands", {}).values():
            yield f"northbound {name} {below.name}", below


@pytest.mark.parametrize("name", COMMANDS)
def test_the_summary_of_a_command_is_its_own(name):
    assert program.get_command(CONTEXT, name).get_short_help_str(200) == COMMANDS[name][1]


@pytest.mark.parametrize(("name", "command"), [*commands()])
def test_every_command_helps_with_an_example(name, command, cli):
    told = cli(*name.split()[1:], "--help")
    assert told.status == 0
    body = told.out.partition("\n")[2]
    assert name in body, "no example"
    for parameter in command.params:
        if isinstance(parameter, click.Option):
            assert parameter.help, f"{parameter.name} has no help"


def test_help_and_import_load_no_command_and_no_rich():
    code = (
        "import sys, northbound.cli\n"
        "sys.argv = ['northbound', '--help']\n"
        "try: northbound.cli.main()\n"
        "except SystemExit as end: assert not end.code\n"
        "loaded = {'rich', 'asyncio', 'sqlite3', 'northbound.registry'} & set(sys.modules)\n"
        "assert not loaded, loaded"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "deadletters" in done.stdout


def test_version(cli):
    assert cli("--version").out == "northbound 0.1.0\n"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["chek"], "did you mean 'check'?"),
        (["quux"], "one of run, demo"),
        (["check", "--conect"], "--connect"),
        (["completion", "tcsh"], "'bash', 'zsh', 'fish'"),
        (["deadletters", "list", "--limit", "0"], "--limit"),
        (["demo", "--duration", "soon"], "write a duration"),
    ],
)
def test_wrong_usage_is_2_and_names_the_remedy(cli, arguments, words):
    told = cli(*arguments)
    assert told.status == 2
    assert words in told.err
    assert not told.out


def break_the_schema(monkeypatch):
    def broken(*_):
        raise RuntimeError("one\ntwo")

    monkeypatch.setattr("northbound.cli.schema.document", broken)


def test_a_defect_is_one_sentence(cli, monkeypatch):
    break_the_schema(monkeypatch)
    told = cli("schema")
    assert told.status == 1
    assert told.err == "northbound: a defect of northbound: RuntimeError: one two (report it with what --debug shows)\n"


def test_debug_shows_the_traceback(cli, monkeypatch):
    break_the_schema(monkeypatch)
    with pytest.raises(RuntimeError):
        cli("--debug", "schema")
    monkeypatch.setenv("NORTHBOUND_DEBUG", "1")
    with pytest.raises(RuntimeError):
        cli("schema")


def test_an_error_of_the_system_names_the_file(cli, site, monkeypatch):
    def denied(*_):
        raise PermissionError(13, "Permission denied", "secret.db")

    monkeypatch.setattr("northbound.cli.schema.document", denied)
    assert cli("schema").err == "northbound: secret.db: Permission denied: check the path and its permissions\n"


def test_a_broken_pipe_ends_quietly():
    with subprocess.Popen(
        [sys.executable, "-m", "northbound", "schema"], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        process.stdout.close()
        assert process.wait(20) == 128 + signal.SIGPIPE
        assert process.stderr.read() == b""


def test_ctrl_c_ends_a_command_quietly(site):
    with subprocess.Popen(
        [sys.executable, "-m", "northbound", "preview", "--input", "-"],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    ) as process:  # fmt: skip
        process.stdin.write(b'{"kind":"metadata","id":"a","metadata":{}}\n' * 1000)
        process.stdin.flush()
        process.stdout.read(1)
        time.sleep(0.2)
        process.send_signal(signal.SIGINT)
        process.stdout.read()
        assert process.wait(20) == 130
        assert b"Traceback" not in process.stderr.read()


def test_names_that_cannot_be_encoded_are_shown_all_the_same(site):
    (site / "northbound.toml").write_text('[connectors.out]\ntype = "日"\n')
    done = subprocess.run(
        [sys.executable, "-m", "northbound", "check"],
        env={**os.environ, "PYTHONIOENCODING": "latin-1"}, capture_output=True, check=False,
    )  # fmt: skip
    assert done.returncode == 1
    assert b"u65e5" in done.stdout
    assert done.stderr == b""


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_prints_a_script(cli, shell):
    told = cli("completion", shell)
    assert told.status == 0
    assert "_NORTHBOUND_COMPLETE" in told.out


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("northbound dea", "deadletters"),
        ("northbound connectors f", "file"),
        ("northbound run --o", "--once"),
        ("northbound privacy sc", "scan"),
        ("northbound privacy detectors em", "email"),
        ("northbound privacy hash a.toml --detector ph", "phone"),
    ],
)
def test_completion_completes(words, expected):
    environment = {
        **os.environ,
        "_NORTHBOUND_COMPLETE": "bash_complete",
        "COMP_WORDS": words,
        "COMP_CWORD": str(words.count(" ")),
    }
    done = subprocess.run(
        [sys.executable, "-m", "northbound"], env=environment, capture_output=True, text=True, check=False
    )
    assert f"plain,{expected}" in done.stdout


def test_all_commands_of_the_table_exist():
    assert set(module.COMMANDS) == {name for name in COMMANDS if program.get_command(CONTEXT, name) is not None}
