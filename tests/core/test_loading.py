"""Reading a configuration: every problem at once with its key and remedy, and never a secret."""
# ruff: noqa: E501 - in a table of broken files each is one line

import types
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Literal

import pydantic
import pytest

import northbound
from northbound.errors import ConfigurationError, Problem
from northbound.loading import load_file, load_text
from northbound.registry import Registry

CANARY = "c4n4ry-hunter2-Zq9"


class Certificate(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(extra="forbid")

    path: northbound.ConfigPath
    password: pydantic.SecretStr | None = None


class Tls(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(extra="forbid")

    certificates: list[Certificate] | None = None
    by_name: dict[str, Certificate] = {}


class MqttOptions(pydantic.BaseModel):
    """Options of every shape that a plugin may have."""

    url: str = pydantic.Field(description="Where the broker is.")
    preset: Literal["hivemq-cloud", "emqx"] | None = pydantic.Field(None, description="Named defaults.")
    username: str | None = None
    password: pydantic.SecretStr | None = None
    port: int | Literal["auto"] = "auto"
    website: pydantic.HttpUrl | None = None
    count: int = 1
    names: list[pydantic.SecretStr] = []
    short: str = pydantic.Field("", max_length=5)
    pattern: str = pydantic.Field("a", pattern="^a*$")
    tls: Tls = Tls()
    checked: str = ""

    @pydantic.field_validator("checked")
    @classmethod
    def _check(cls, value):
        if value == "crash":
            raise RuntimeError(f"a plugin's defect that tells {CANARY}")
        if value:
            raise ValueError(f"a plugin that tells {value!r}")
        return value


class Mqtt(northbound.Connector):
    Config = MqttOptions


class Narrow(northbound.Connector):
    limits = northbound.Limits(max_topic_levels=8, reserved_prefixes=("$", "devices/"))
    default_topic = "placeos/{org}/state/{building}/{level}/{area}/{system}/{driver}.{module}.{index}.{state}"


class JsonlOptions(pydantic.BaseModel):
    path: str


class Jsonl(northbound.Source):
    Config = JsonlOptions


class FakePoint:
    def __init__(self, name, provided):
        self.name = self.module = name
        self.extras, self.dist = [], None
        self._provided = provided

    def load(self):
        if isinstance(self._provided, Exception):
            raise self._provided
        return self._provided


def provider(connectors, sources):
    module = types.ModuleType("provider")
    module.northbound_connectors = northbound.hookimpl(specname="northbound_connectors")(lambda: connectors)
    module.northbound_sources = northbound.hookimpl(specname="northbound_sources")(lambda: sources)
    return module


REGISTRY = Registry(
    [
        FakePoint("fakes", provider({"mqtt": Mqtt, "narrow": Narrow}, {"jsonl": Jsonl})),
        FakePoint("gcp-pubsub", ModuleNotFoundError("No module named 'google'", name="google")),
        EntryPoint("detectors", "northbound_detectors", "northbound"),
    ]
)

SMALLEST = """
[site]
org = "org-acme"
[sources.in]
type = "jsonl"
path = "events.jsonl"
[connectors.out]
type = "mqtt"
url = "mqtt://127.0.0.1:1883"
"""


def load(text, **options):
    return load_text(text, REGISTRY, name="northbound.toml", environment={}, **options)


def problems_of(text, **options):
    with pytest.raises(ConfigurationError) as caught:
        load_text(text, REGISTRY, name="northbound.toml", **({"environment": {}} | options))
    found = caught.value.problems
    assert found
    for problem in found:
        assert problem.file == "northbound.toml"
        assert 0 < len(problem.message) <= 400
        assert len(problem.key) < 300
        assert str(problem).isprintable()
    assert str(caught.value) == "\n".join(map(str, found))
    return list(found)


def problem_of(text, **options):
    (problem,) = problems_of(text, **options)
    return problem


# what is right


def test_the_smallest_file_of_the_design():
    configuration = load(SMALLEST)
    assert configuration.site.org == "org-acme"
    assert configuration.site.root == "placeos"
    assert configuration.store.path == Path("northbound.db")
    (source,), (connector,) = configuration.sources, configuration.connectors
    assert (source.name, source.options.path) == ("in", "events.jsonl")
    assert (connector.name, connector.options.url) == ("out", "mqtt://127.0.0.1:1883")
    assert connector.options.topics == ("#",)
    assert isinstance(connector.create(), Mqtt)
    assert connector.create().name == "out"
    assert isinstance(source.create(), Jsonl)


REALISTIC = """
[site]
org = "org-acme"                # where the source names none
root = "placeos"
profile = "documented"

[store]
path = "northbound.db"          # SQLite; later also a cluster's address
max_bytes = "2 GiB"

[sources.building]
type = "placeos"                # or jsonl, http, mqtt, simulator, or a third party's
redis = "redis://127.0.0.1:6379"
postgres = "postgresql://127.0.0.1/placeos"

[connectors.hive]
type = "mqtt"
preset = "hivemq-cloud"
url = "mqtts://abc123.s1.eu.hivemq.cloud"
username = "acme"
password = "${HIVEMQ_PASSWORD}"
topics = ["placeos/+/state/#", "placeos/+/metadata/#"]   # what it receives; default everything

[connectors.aws]
type = "aws-iot"
endpoint = "abc-ats.iot.eu-west-1.amazonaws.com"
certificate = "certs/device.pem.crt"
topic = "placeos/{org}/state/{building}/{level}/{area}/{system}/{driver}.{module}.{index}.{state}"
[connectors.aws.retry]
initial = "500ms"
maximum = "60s"
[connectors.aws.backlog]
maximum_age = "72h"
when_full = "latest"
"""


def test_the_realistic_file_says_what_is_not_installed():
    found = problems_of(REALISTIC)
    assert [(problem.key, problem.message) for problem in found] == [
        ("connectors.hive.password", "the environment variable HIVEMQ_PASSWORD is not set"),
        ("connectors.aws.type", "no connector of type 'aws-iot' is installed"),
        ("sources.building.type", "no source of type 'placeos' is installed"),
    ]
    assert found[1].remedy == "one of mqtt, narrow"
    assert found[2].remedy == "one of jsonl"


def test_the_realistic_file_with_what_is_installed():
    text = REALISTIC.replace('"aws-iot"', '"mqtt"\nurl = "x"').replace('"placeos"  ', '"jsonl"\npath = "x"  ')
    for line in ("endpoint", "certificate", "redis", "postgres"):
        text = text.replace(f"\n{line} =", f"\n# {line} =")
    configuration = load_text(text, REGISTRY, environment={"HIVEMQ_PASSWORD": CANARY})
    hive, aws = configuration.connectors
    assert hive.options.password.get_secret_value() == CANARY
    assert hive.options.topics == ("placeos/+/state/#", "placeos/+/metadata/#")
    assert aws.options.retry.maximum.total_seconds() == 60
    assert aws.options.backlog.maximum_age.total_seconds() == 72 * 3600
    assert configuration.store.max_bytes == 2 * 1024**3
    assert CANARY not in repr(configuration)


def test_the_placeos_profile_and_each_option_alone():
    site = load(SMALLEST.replace('org = "org-acme"', 'profile = "placeos"')).site
    assert site.scheme.hierarchy == ("org", "region", "building", "level", "area")
    assert site.scheme.metadata_org == "org"
    assert (site.payloads.time, site.payloads.value, site.payloads.metadata) == ("s", "json", "envelope")
    site = load(SMALLEST.replace('org = "org-acme"', 'profile = "placeos"\ntime = "ms"\nhierarchy = ["org"]')).site
    assert (site.payloads.time, site.payloads.value) == ("ms", "json")
    assert site.scheme.hierarchy == ("org",)


def test_what_is_disabled_is_checked_and_left_out():
    text = SMALLEST + '[connectors.off]\ntype = "mqtt"\nenabled = false\nurl = "x"\n'
    assert [connector.name for connector in load(text).connectors] == ["out"]
    assert problem_of(text + "prot = 1\n").key == "connectors.off.prot"


def test_paths_start_beside_the_file(tmp_path):
    file = tmp_path / "northbound.toml"
    file.write_text(SMALLEST + '[connectors.out.tls.by_name.a]\npath = "certs/a.pem"\n')
    configuration = load_file(file, REGISTRY, {})
    assert configuration.store.path == tmp_path / "northbound.db"
    assert configuration.connectors[0].options.tls.by_name["a"].path == tmp_path / "certs/a.pem"


def test_a_byte_order_mark_and_line_ends_of_windows_are_no_problem(tmp_path):
    file = tmp_path / "northbound.toml"
    file.write_bytes(b"\xef\xbb\xbf" + SMALLEST.replace("\n", "\r\n").encode())
    assert load_file(file, REGISTRY, {}).site.org == "org-acme"


# secrets


def with_password(written):
    return SMALLEST + f'password = "{written}"\n'


def password_of(configuration):
    return configuration.connectors[0].options.password.get_secret_value()


@pytest.mark.parametrize(
    ("written", "password"),
    [
        ("${PASSWORD}", CANARY),
        ("${PASSWORD:default}", CANARY),
        ("${MISSING:a default}", "a default"),
        ("${MISSING:}", ""),
        ("${EMPTY:default}", ""),
        ("${MISSING:https://host:8883/}", "https://host:8883/"),
        ("pre-${PASSWORD}-${MISSING:x}-post", f"pre-{CANARY}-x-post"),
        ("${REFERENCE}", "${PASSWORD}"),
        ("$PASSWORD {PASSWORD} $$", "$PASSWORD {PASSWORD} $$"),
    ],
)
def test_references_to_the_environment(written, password):
    environment = {"PASSWORD": CANARY, "EMPTY": "", "REFERENCE": "${PASSWORD}"}
    assert password_of(load_text(with_password(written), REGISTRY, environment=environment)) == password


@pytest.mark.parametrize(
    ("content", "password"),
    [
        (CANARY, CANARY),
        (CANARY + "\n", CANARY),
        (CANARY + "\r\n", CANARY),
        (f" {CANARY}\n\n", f" {CANARY}\n"),
        ("\ufeffx", "x"),
    ],
)
def test_references_to_a_file(tmp_path, content, password):
    (tmp_path / "secret").write_bytes(content.encode())
    for written in ("${file:secret}", f"${{file:{tmp_path}/secret}}"):
        assert password_of(load(with_password(written), base=tmp_path)) == password


@pytest.mark.parametrize(
    ("written", "message", "remedy"),
    [
        ("${PASSWORD}", "the environment variable PASSWORD is not set", "set it, or write ${PASSWORD:default}"),
        ("${file:no/such}", "the file no/such cannot be read: No such file or directory", "check path and permissions"),
        ("${file:.}", "the file . cannot be read: Is a directory", "check path and permissions"),
        ("${file:binary}", "the file binary is not UTF-8 text", "point it at a text file"),
        ("${file:~no-such-user/x}", "'~no-such-user/x' is not a path", "write ${file:/path}"),
        ("${file:a\\u0000b}", r"'a\x00b' is not a path", "write ${file:/path}"),
        ("${MY-PASSWORD}", "holds '${' that begins no reference", "write ${NAME}, ${NAME:default} or ${file:/path}"),
        ("${PASSWORD", "holds '${' that begins no reference", "write ${NAME}, ${NAME:default} or ${file:/path}"),
        ("${}", "holds '${' that begins no reference", "write ${NAME}, ${NAME:default} or ${file:/path}"),
        ("${file:}", "holds '${' that begins no reference", "write ${NAME}, ${NAME:default} or ${file:/path}"),
    ],
)
def test_a_reference_that_leads_nowhere(tmp_path, written, message, remedy):
    (tmp_path / "binary").write_bytes(b"\xff\xfe")
    expected = Problem("northbound.toml", "connectors.out.password", message, remedy)
    assert problem_of(with_password(written), base=tmp_path) == expected


def test_a_secret_of_more_than_64_kib_is_refused(tmp_path):
    (tmp_path / "big").write_bytes(b"x" * 70_000)
    assert "larger than 64 KiB" in problem_of(with_password("${file:big}"), base=tmp_path).message


def test_references_are_found_in_lists_and_tables():
    text = SMALLEST + 'names = ["${A}", "b"]\ntls = { by_name = { x = { path = "${B}" } } }\n'
    assert [problem.key for problem in problems_of(text)] == [
        "connectors.out.names.0",
        "connectors.out.tls.by_name.x.path",
    ]


WRONG_VALUES = [  # each puts the secret where it does not belong
    "count = {}",
    "port = {}",
    "website = {}",
    "short = {}",
    "pattern = {}",
    "preset = {}",
    "checked = {}",
    "password = [{}]",
    "password = {{ value = {} }}",
    "names = {}",
    "names = [[{}]]",
    "names = [1, {}]",
    "tls = {}",
    "tls = {{ certificates = {} }}",
    "tls = {{ certificates = [{}] }}",
    "tls = {{ certificates = [{{ path = [{}] }}] }}",
    "topics = {}",
    "topics = [{}, 'a/#/b']",
    "topic = {}\ncount = 'x'",
    "metadata_topic = '{{nonsense}}'\nusername = {}",
    "enabled = {}",
    "retain = {}",
    "start = {}",
    "retry = {}",
    "retry = {{ initial = {} }}",
    "retry = {{ attempts = {} }}",
    "backlog = {{ maximum_bytes = {} }}",
    "backlog = {{ maximum_bytes = '5 {raw}' }}",
    "backlog = {{ when_full = {} }}",
    "rate = {{ messages = {} }}",
    "limits = {{ retain = {} }}",
    "unknown = {}",
    "[site]\norg = [{}]",
    "[site]\nprofile = {}",
    "[site]\nroot = [{}]",
    "[site]\nhierarchy = {}",
    "[store]\nmax_bytes = {}",
    "[store]\nsynchronous = {}",
    "[service]\ndrain = {}",
    "[service]\nlog_level = {}",
    "[sources.in]\ntype = 'jsonl'\npath = [{}]",
    "[connectors]\nother = {}",
    "[connectors.other]\ntype = [{}]",
    "syntax = {} error",
    "syntax = {raw}",
    "count = {{ {raw} = 1, }}",
]


@pytest.mark.parametrize("wrong", WRONG_VALUES)
def test_a_secret_is_never_told(wrong, tmp_path):
    (tmp_path / "secret").write_text(CANARY + "\n")
    for written in (f"'{CANARY}'", "'${SECRET}'", "'pre${SECRET}post'", "'${file:secret}'", "'${NONE:" + CANARY + "}'"):
        text = SMALLEST + wrong.format(written, raw=written.strip("'") if "${" not in written else CANARY)
        if "[site]" in wrong:
            text = text.replace('[site]\norg = "org-acme"', "", 1)
        if "[sources.in]" in wrong:
            text = text.replace('[sources.in]\ntype = "jsonl"\npath = "events.jsonl"', "", 1)
        with pytest.raises(ConfigurationError) as caught:
            load_text(text, REGISTRY, base=tmp_path, environment={"SECRET": CANARY})
        if "checked" in wrong and "$" not in written:
            continue  # what a plugin tells of a value in the file itself is the plugin's to answer for
        if "[connectors.other]" in wrong and "$" not in written:
            continue  # a type is told: it is no secret, unless it came by a reference
        error = caught.value
        assert CANARY not in f"{error} {error!r} {error.problems!r} {error.args!r}"


def test_what_is_right_is_never_told_either():
    text = with_password("${SECRET}") + 'username = "${SECRET}"\nnames = ["${SECRET}"]\n'
    configuration = load_text(
        text.replace("mqtt://127.0.0.1:1883", "mqtt://u:${SECRET}@h"), REGISTRY, environment={"SECRET": CANARY}
    )
    (connector,) = configuration.connectors
    for thing in (configuration, connector, connector.options, connector.plugin):
        assert CANARY not in f"{thing!r} {thing}"


def test_a_short_value_does_not_blacken_the_words():
    text = SMALLEST.replace("127.0.0.1:1883", "${A}").replace('type = "mqtt"', 'type = "mqtt"\ncunt = 1')
    assert problem_of(text, environment={"A": "a"}).message == "is not a known key"


# every problem at once


def test_every_problem_at_once():
    found = problems_of(
        """
        [site]
        profile = "documentd"
        orgg = "x"
        [store]
        max_bytes = "lots"
        [sources.a]
        type = "jsonl"
        [sources.b]
        [connectors.c]
        type = "mqtt"
        topics = ["a/#/b"]
        password = "${NOT_SET}"
        [connectors.c.retry]
        initial = "soon"
        multiplyer = 2
        [connectors.d]
        type = "mqqt"
        [connectors."e f"]
        type = "mqtt"
        url = "x"
        """
    )
    assert sorted(problem.key for problem in found) == sorted(
        [
            "site.profile", "site.orgg", "store.max_bytes", "sources.a.path", "sources.b.type", "connectors.c.url",
            "connectors.c.topics.0", "connectors.c.password", "connectors.c.retry.initial",
            "connectors.c.retry.multiplyer", "connectors.d.type", "connectors.'e f'",
        ]
    )  # fmt: skip


@pytest.mark.parametrize(
    ("added", "key", "near"),
    [
        ("[sites]\n", "sites", "site"),
        ("[servce]\n", "servce", "service"),
        ("[store]\nmaxbytes = 1\n", "store.maxbytes", "max_bytes"),
        ("[connectors.x]\ntype = 'mqtt'\nurl = 'x'\npasword = 'x'\n", "connectors.x.pasword", "password"),
        ("[connectors.out.retry]\nmaximun = '1s'\n", "connectors.out.retry.maximun", "maximum"),
        ("[connectors.out.limits]\nmax_topic_level = 1\n", "connectors.out.limits.max_topic_level", "max_topic_levels"),
        ("[connectors.out.tls]\ncertificate = 1\n", "connectors.out.tls.certificate", "certificates"),
        (
            "[[connectors.out.tls.certificates]]\npath = 'x'\n[[connectors.out.tls.certificates]]\npath = 'x'\npasswort = 'x'\n",
            "connectors.out.tls.certificates.1.passwort",
            "password",
        ),
        ("[connectors.out.tls.by_name.x]\npath = 'x'\npat = 'x'\n", "connectors.out.tls.by_name.x.pat", "path"),
    ],
)
def test_the_nearest_key_is_named_at_every_depth(added, key, near):
    problem = problem_of(SMALLEST + added)
    assert (problem.key, problem.message, problem.remedy) == (key, "is not a known key", f"did you mean {near!r}?")


def test_where_no_key_is_near_the_known_ones_are_named():
    problem = problem_of(SMALLEST + "[store]\nzzz = 1\n")
    assert problem.remedy == "known here: max_bytes, max_dead_letters, path, synchronous"


OUT = "connectors.out"
BROKEN = [  # (the file, key, message, remedy), each a part of what is said
    ("", "sources", "no source is configured", "[sources.NAME]"),
    ("a = ", "", "is not TOML: Invalid value (at end of document)", "mend that line"),
    ("[site]\norg = 'a'\norg = 'b'\n", "", "is not TOML: Cannot overwrite a value (at line 3", "mend that line"),
    ("a = [" * 3000, "", "is not TOML|nested too deeply", ""),
    ("a = " + "[" * 3000 + "]" * 3000, "", "nested too deeply", "fewer brackets"),
    ("a" + ".a" * 2000 + " = 1", "", "nested too deeply", "fewer brackets"),
    ("a = " + "1" * 5000, "", "number of thousands of digits", "less"),
    ("a = 2026-13-45", "", "is not TOML", "mend that line"),
    ("\0", "", "is not TOML", "mend that line"),
    (SMALLEST + "[site]\n", "", "is not TOML: Cannot declare ('site',) twice", "mend that line"),
    ("site = 3\n" + SMALLEST.replace('[site]\norg = "org-acme"', ""), "site", "is not a table", "schema"),
    ("sources = 3\n" + SMALLEST.replace('[sources.in]\ntype = "jsonl"\npath = "events.jsonl"', ""), "sources", "is not a table", "[sources.NAME]"),
    ("[[connectors]]\ntype = 'mqtt'\n", "connectors", "is not a table", "[connectors.NAME]"),
    (SMALLEST + "[connectors]\nx = 'mqtt'\n", "connectors.x", "is not a table", "[connectors.x]"),
    (SMALLEST + "[connectors.'a b']\ntype = 'mqtt'\nurl = 'x'\n", "connectors.'a b'", "is not a name", "letters, digits"),
    (SMALLEST + "[connectors.\"a\\nb\"]\ntype = 'mqtt'\nurl = 'x'\n", r"connectors.'a\nb'", "is not a name", "letters, digits"),
    (SMALLEST + f"[connectors.{'x' * 65}]\ntype = 'mqtt'\nurl = 'x'\n", "connectors.", "is not a name", "at most 64"),
    (SMALLEST + "[connectors.x]\n", "connectors.x.type", "is missing", "one of mqtt, narrow"),
    (SMALLEST + "[connectors.x]\ntype = 'mqqt'\n", "connectors.x.type", "no connector of type 'mqqt'", "did you mean 'mqtt'?"),
    (SMALLEST + "[connectors.x]\ntype = 'kafka'\n", "connectors.x.type", "no connector of type 'kafka'", "one of mqtt, narrow"),
    (SMALLEST + "[connectors.x]\ntype = 'jsonl'\n", "connectors.x.type", "no connector of type 'jsonl'", "it is a source"),
    (SMALLEST + "[sources.x]\ntype = 'mqtt'\n", "sources.x.type", "no source of type 'mqtt'", "it is a connector"),
    (SMALLEST + "[connectors.x]\ntype = 5\n", "connectors.x.type", "no connector of type '5'", "one of"),
    (SMALLEST + "[connectors.x]\ntype = 'gcp-pubsub'\n", "connectors.x.type", "does not load: No module named 'google'", "pip install google"),
    (SMALLEST + "[connectors.x]\ntype = 'mqtt'\n", "connectors.x.url", "is missing", "Where the broker is."),
    (SMALLEST + "port = 'x'\n", f"{OUT}.port", "valid integer, unable to parse string as an integer, or input should be 'auto'", "schema"),
    (SMALLEST + "preset = 'hive'\n", f"{OUT}.preset", "input should be 'hivemq-cloud' or 'emqx'", "Named defaults."),
    (SMALLEST + "enabled = 'perhaps'\n", f"{OUT}.enabled", "valid boolean", "do not run"),
    (SMALLEST + "checked = 'crash'\n", OUT, "cannot be checked: RuntimeError", "defect of the plugin"),
    (SMALLEST + "topics = []\n", f"{OUT}.topics", "at least 1", "Which topics"),
    (SMALLEST + "topics = ['a', 'a+']\n", f"{OUT}.topics.1", "topic filter '+' must be a whole level", "Which topics"),
    (SMALLEST + "retry = 5\n", f"{OUT}.retry", "is not a table", "schema"),
    (SMALLEST + "retry.initial = 'soon'\n", f"{OUT}.retry.initial", "write a duration such as", "first failure"),
    (SMALLEST + "retry.initial = 0\n", f"{OUT}.retry.initial", "greater than or equal to", "first failure"),
    (SMALLEST + "retry.multiplier = nan\n", f"{OUT}.retry.multiplier", "less than or equal", "times the one before"),
    (SMALLEST + "backlog.maximum_bytes = '5 GoB'\n", f"{OUT}.backlog.maximum_bytes", "write a size such as", "Default: [store]"),
    (SMALLEST + "rate.messages = inf\n", f"{OUT}.rate.messages", "finite", "Messages a second"),
    (SMALLEST + "topic = 'a/{region}'\n", f"{OUT}.topic", "{region} is not known here", "preview"),
    (SMALLEST + "topic = 'a/{driver}{state}'\n", f"{OUT}.topic", "two placeholders touch", "preview"),
    (SMALLEST + "topic = '$SYS/{state}'\n", f"{OUT}.topic", "begins with '$'", "preview"),
    (SMALLEST + "metadata_topic = '{system}'\n", f"{OUT}.metadata_topic", "{system} is not known here", "preview"),
    (SMALLEST + "limits.max_topic_levels = 10\n", f"{OUT}.topic", "topics of 11 levels: the destination takes 10", "preview"),
    (SMALLEST + "[connectors.x]\ntype = 'narrow'\ntopic = 'a/b/{topic}'\n", "connectors.x.topic", "topics of 13 levels", "preview"),
    (SMALLEST + "[connectors.x]\ntype = 'narrow'\ntopic = 'devices/{topic}'\n", "connectors.x.topic", "topics of 12 levels", "preview"),
    (SMALLEST + "[connectors.x]\ntype = 'narrow'\ntopic = 'devices/{org}'\n", "connectors.x.topic", "begins with 'devices/'", "preview"),
    (
        SMALLEST.replace('"org-acme"', '"o"\nhierarchy = ["org", "site"]') + "[connectors.x]\ntype = 'narrow'\n",
        "connectors.x.topic",
        "does not fit: {building} is not known here",
        'set topic = "…"',
    ),
    (SMALLEST.replace('"org-acme"', '""'), "site.org", "at least 1 character", "names none"),
    (SMALLEST.replace('"org-acme"', '"x"\nroot = "a/b"'), "site.root", "write one topic level", "First level"),
    (SMALLEST.replace('"org-acme"', '"x"\nroot = "$x"'), "site.root", "no '$' first", "First level"),
    (SMALLEST.replace('"org-acme"', '"x"\nhierarchy = ["building"]'), "site.hierarchy", "'org' first", "Zone levels"),
    (SMALLEST.replace('"org-acme"', '"x"\nhierarchy = ["org", "state"]'), "site.hierarchy", "word the format uses", "Zone levels"),
    (SMALLEST.replace('"org-acme"', '"x"\nhierarchy = ["org", "class"]'), "site.hierarchy", "lower-case words", "Zone levels"),
    (SMALLEST + "[store]\nmax_bytes = '9'\n", "store.max_bytes", "greater than or equal to 1048576", "backlog"),
    (SMALLEST + "[store]\npath = '~no-such-user/x'\n", "store.path", "home directory", "SQLite"),
    (SMALLEST + f"[store]\n{'k' * 5000} = 1\n", "store.'kkkkkkkk", "is not a known key", "known here"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("text", "key", "message", "remedy"), BROKEN, ids=[f"{n}-{row[1][:30]}" for n, row in enumerate(BROKEN)]
)
def test_a_broken_file_says_where_what_and_what_to_do(text, key, message, remedy):
    problem = problems_of(text)[0]
    assert problem.key == key or (len(key) > 10 and problem.key.startswith(key))
    assert any(part in problem.message for part in message.split("|"))
    assert remedy in problem.remedy


def test_nothing_at_all_is_said_with_both_remedies():
    assert [problem.key for problem in problems_of("")] == ["sources", "connectors"]


# the file itself


def file_problem(path):
    with pytest.raises(ConfigurationError) as caught:
        load_file(path, REGISTRY, {})
    (problem,) = caught.value.problems
    assert problem.file == str(path)
    return problem


def test_a_file_that_cannot_be_read(tmp_path):
    assert file_problem(tmp_path / "none.toml").message == "cannot be read: No such file or directory"
    assert file_problem(tmp_path).message == "cannot be read: Is a directory"


def test_a_file_that_is_not_utf_8(tmp_path):
    file = tmp_path / "latin.toml"
    file.write_bytes(b"[site]\norg = '\xe9'\n")
    assert file_problem(file)[2:] == ("is not UTF-8 at byte 14", "save it as UTF-8")


def test_a_file_of_two_mebibytes(tmp_path):
    file = tmp_path / "big.toml"
    file.write_bytes(b"#" * 2 * 1024**2)
    assert file_problem(file).message == "is larger than 1 MiB"


def test_a_problem_reads_as_one_line():
    assert str(Problem("f.toml", "a.b", "is missing", "write it")) == "f.toml: a.b: is missing (write it)"
    assert str(Problem("f.toml", "", "is missing", "")) == "f.toml: is missing"
