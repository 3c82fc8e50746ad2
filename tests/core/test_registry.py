"""What is installed: good plugins work, broken ones are rows with a reason, and neither hurts the other."""

import sys
import types
from importlib.metadata import EntryPoint
from types import SimpleNamespace

import pydantic
import pytest

import northbound
from northbound.errors import PluginError
from northbound.registry import Plugin, Registry


class Options(pydantic.BaseModel):
    url: str


class Good(northbound.Connector):
    Config = Options


class GoodSource(northbound.Source):
    pass


class FakePoint:
    """What :class:`importlib.metadata.EntryPoint` offers; ``provided`` is a plugin or an error that loading raises."""

    def __init__(self, name, provided, *, package="some-package", version="1.2", module=None, extras=()):
        self.name = name
        self.module = module or f"module_of_{name}"
        self.extras = list(extras)
        self.dist = SimpleNamespace(name=package, version=version) if package else None
        self._provided = provided

    def load(self):
        if isinstance(self._provided, BaseException):
            raise self._provided
        return self._provided() if isinstance(self._provided, types.LambdaType) else self._provided


def plugin(connectors=None, sources=None):
    module = types.ModuleType("a_plugin")
    if connectors is not None:
        module.northbound_connectors = northbound.hookimpl(specname="northbound_connectors")(lambda: connectors)
    if sources is not None:
        module.northbound_sources = northbound.hookimpl(specname="northbound_sources")(lambda: sources)
    return module


def good_point(name="good", type_name="good", **options):
    return FakePoint(name, plugin({type_name: Good}), **options)


def registry(*points):
    """Return the registry of ``points`` among two good ones, which must be unaffected."""
    found = Registry([good_point("aaa", "first"), *points, good_point("zzz", "last")])
    assert found.find("connector", "first").implementation is Good
    assert found.find("connector", "last").implementation is Good
    return found


def row_of(point):
    (row,) = [row for row in registry(point).rows if row.type_name not in ("first", "last")]
    return row


def test_a_good_plugin():
    found = Registry([FakePoint("p", plugin({"tube": Good}, {"tap": GoodSource}), package="tubes", version="3")])
    assert [(row.kind, row.type_name, row.package, row.version, row.error) for row in found.rows] == [
        ("connector", "tube", "tubes", "3", None),
        ("source", "tap", "tubes", "3", None),
    ]
    assert found.types("connector") == ["tube"]
    assert found.types("source") == ["tap"]
    assert found.find("connector", "tube").implementation is Good
    assert found.find("source", "tap").implementation is GoodSource
    assert found.find("connector", "tap") is None
    assert found.find("source", "tube") is None


def test_a_plugin_may_be_an_object_with_methods():
    class Provider:
        @northbound.hookimpl
        def northbound_sources(self):
            return {"tap": GoodSource}

    assert Registry([FakePoint("p", Provider())]).types("source") == ["tap"]


def test_the_model_is_the_plugin_s_options_and_the_common_ones():
    model = Registry([good_point()]).find("connector", "good").model
    assert {"type", "url", "topics", "retry", "enabled"} <= set(model.model_fields)
    assert model.model_validate({"type": "good", "url": "x"}).url == "x"
    for wrong in ({"type": "other", "url": "x"}, {"type": "good"}, {"type": "good", "url": "x", "more": 1}):
        with pytest.raises(pydantic.ValidationError):
            model.model_validate(wrong)


def test_the_repr_of_options_tells_no_value():
    model = Registry([good_point()]).find("connector", "good").model
    options = model.model_validate({"type": "good", "url": "CANARY", "topic": "CANARY"})
    for text in (repr(options), str(options), f"{options!r}"):
        assert "CANARY" not in text
        assert "url" in text


def test_an_installation_without_plugins():
    found = Registry([])
    assert found.rows == []
    assert found.find("connector", "mqtt") is None
    assert found.types("connector") == []


def test_the_installation_itself_loads():
    assert all(row.version for row in Registry().rows)


# broken ones


def import_error(name):
    return ModuleNotFoundError(f"No module named {name!r}", name=name)


@pytest.mark.parametrize(
    ("point", "error", "hint"),
    [
        (FakePoint("p", import_error("awscrt.mqtt")), "No module named 'awscrt.mqtt'", "pip install awscrt"),
        (
            FakePoint("p", import_error("awscrt"), package="northbound", extras=["aws"]),
            "No module named 'awscrt'",
            "pip install 'northbound[aws]'",
        ),
        (FakePoint("p", import_error("gone"), module="gone.plugin"), "No module named", "install some-package again"),
        (FakePoint("p", ImportError("cannot import name 'x' from 'y'")), "cannot import name 'x' from 'y'", None),
        (FakePoint("p", ModuleNotFoundError("odd")), "odd", None),
        (
            FakePoint("p", SyntaxError("invalid syntax", ("a.py", 3, 1, "x =", 3, 2))),
            "SyntaxError: invalid syntax",
            None,
        ),
        (FakePoint("p", AttributeError("module has no attribute 'x'")), "AttributeError: module has no", None),
        (FakePoint("p", ValueError()), "ValueError", None),
        (FakePoint("p", SystemExit(3)), "SystemExit: 3", None),
        (FakePoint("p", RuntimeError("line\nline\t" * 500)), "RuntimeError: line line", None),
        (FakePoint("p", RecursionError("too deep")), "RecursionError: too deep", None),
        (FakePoint("p", plugin()), "hookimpl missing", None),
        (FakePoint("p", plugin({})), "provides no connector, no source and no detector", None),
        (FakePoint("p", SimpleNamespace()), "hookimpl missing", None),
        (FakePoint("p", plugin(["mqtt"])), "no mapping", None),
        (FakePoint("p", plugin({1: Good})), "lower-case letters", None),
        (FakePoint("p", plugin({"": Good})), "lower-case letters", None),
        (FakePoint("p", plugin({"Two Words": Good})), "lower-case letters", None),
    ],
    ids=lambda value: value[:30] if isinstance(value, str) else "",
)
def test_an_entry_point_that_gives_nothing_is_a_row_with_the_reason(point, error, hint):
    row = row_of(point)
    assert (row.kind, row.type_name, row.package, row.version) == (None, "p", point.dist.name, "1.2")
    assert error in row.error
    assert len(row.error) <= 300
    assert row.error.isprintable()
    assert (hint is None and row.hint is None) or hint in row.hint
    with pytest.raises(PluginError):
        row.model  # noqa: B018


def test_a_broken_entry_point_is_found_under_its_name():
    found = registry(FakePoint("aws-iot", import_error("awsiot"), package="northbound", extras=["aws"]))
    assert found.find("connector", "aws-iot").hint == "pip install 'northbound[aws]'"
    assert found.find("source", "aws-iot").hint == "pip install 'northbound[aws]'"
    assert "aws-iot" not in found.types("connector")


def clash(*names, base=northbound.Connector):
    config = pydantic.create_model("Config", **dict.fromkeys(names, (str, "x")))
    return type("Clashing", (base,), {"Config": config})


@pytest.mark.parametrize(
    ("found", "error"),
    [
        (GoodSource, "not a northbound.Connector"),
        (Good({}, name="x"), "not a northbound.Connector"),
        (None, "not a northbound.Connector"),
        (dict, "not a northbound.Connector"),
        ("module:Class", "not a northbound.Connector"),
        (clash("topic"), "its options topic are ones that every connector has"),
        (clash("retry", "url", "enabled"), "its options enabled, retry are ones"),
        (clash("type"), "its options type are ones"),
        (type("C", (northbound.Connector,), {"Config": None}), "its Config is not a pydantic model"),
        (type("C", (northbound.Connector,), {"Config": dict}), "its Config is not a pydantic model"),
        (type("C", (northbound.Connector,), {"limits": {"max_qos": 1}}), "not a northbound.Limits"),
    ],
    ids=lambda value: value[:40] if isinstance(value, str) else "",
)
def test_a_wrong_class_is_a_row_and_its_neighbour_works(found, error):
    installed = registry(FakePoint("p", plugin({"wrong": found, "right": Good})))
    row = installed.find("connector", "wrong")
    assert error in row.error
    assert row.implementation is None
    assert installed.find("connector", "right").implementation is Good
    assert "wrong" not in installed.types("connector")


def test_a_source_s_options_may_have_names_that_only_connectors_have():
    installed = registry(FakePoint("p", plugin(sources={"tap": clash("topic", base=northbound.Source)})))
    assert installed.find("source", "tap").error is None


def test_a_type_that_two_provide_is_the_first_one_s():
    installed = registry(good_point("p1", "tube", package="one"), good_point("p2", "tube", package="two"))
    assert installed.find("connector", "tube").package == "one"
    (second,) = [row for row in installed.rows if row.package == "two"]
    assert second.error == "the type 'tube' is already provided by one"


def test_a_type_of_ours_cannot_be_taken_over():
    installed = registry(good_point("aaaa", "mqtt", package="other"), good_point("mqtt", "mqtt", package="northbound"))
    assert installed.find("connector", "mqtt").package == "northbound"


def test_a_broken_provider_does_not_keep_a_type():
    installed = registry(
        FakePoint("p1", plugin({"tube": None}), package="one"), good_point("p2", "tube", package="two")
    )
    assert installed.find("connector", "tube").package == "two"


def test_one_module_named_by_two_entry_points_is_one_plugin():
    module = plugin({"tube": Good})
    installed = registry(FakePoint("p1", module), FakePoint("p2", module))
    assert installed.find("connector", "tube").implementation is Good
    assert [row.error is None for row in installed.rows if row.type_name in ("tube", "p2")] == [True, False]


def test_an_unknown_hook_is_that_plugin_s_problem_alone():
    module = plugin({"tube": Good})
    module.northbound_conectors = northbound.hookimpl(specname="northbound_conectors")(module.northbound_connectors)
    installed = registry(FakePoint("mmm", module))
    row = next(row for row in installed.rows if row.type_name == "mmm")
    assert "northbound_conectors" in row.error


def test_a_hook_that_raises_is_that_plugin_s_problem_alone():
    def broken():
        raise KeyError("nothing here")

    module = types.ModuleType("m")
    module.northbound_connectors = northbound.hookimpl(specname="northbound_connectors")(broken)
    assert row_of(FakePoint("p", module)).error == "KeyError: 'nothing here'"


def test_a_real_entry_point_of_a_broken_module(tmp_path, monkeypatch):
    (tmp_path / "nb_syntax_error.py").write_text("def (:\n")
    (tmp_path / "nb_missing_dependency.py").write_text("import nb_no_such_sdk.part\n")
    monkeypatch.syspath_prepend(tmp_path)
    names = ["nb_syntax_error", "nb_missing_dependency", "nb_not_there"]
    installed = registry(*[EntryPoint(name, name, "northbound") for name in names])
    rows = {row.type_name: row for row in installed.rows}
    assert rows["nb_syntax_error"].error.startswith("SyntaxError: ")
    assert rows["nb_missing_dependency"].hint == "pip install nb_no_such_sdk"
    assert "nb_not_there again" in rows["nb_not_there"].hint
    for name in names:
        sys.modules.pop(name, None)


def test_a_row_without_implementation_says_why_when_its_model_is_asked_for():
    with pytest.raises(PluginError, match="x: broken"):
        Plugin(None, "x", package="p", version="1", error="broken").model  # noqa: B018
