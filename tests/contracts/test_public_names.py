"""The public surface, name by name. A change here is a change for every plugin there is."""

import inspect
import types
from importlib.resources import files

import northbound
from northbound import errors

PUBLIC = [
    "Address",
    "ApiKey",
    "Cleared",
    "ConfigPath",
    "ConfigurationError",
    "Connector",
    "Credential",
    "DeliveryError",
    "Detector",
    "Duration",
    "Event",
    "EventDecoder",
    "EventRefused",
    "Found",
    "Imported",
    "Intake",
    "Lanes",
    "Limits",
    "Message",
    "Metadata",
    "MetadataAddress",
    "NorthboundError",
    "NotConnected",
    "Outgoing",
    "PartialDelivery",
    "PluginError",
    "Problem",
    "Rejected",
    "Source",
    "State",
    "StoreCorrupt",
    "StoreError",
    "StoreForeign",
    "StoreFull",
    "StoreLocked",
    "Synchronisation",
    "Ticket",
    "TopicFilter",
    "Unauthorised",
    "Unavailable",
    "__version__",
    "hookimpl",
]


def test_the_public_names_are_these_and_sorted():
    assert northbound.__all__ == PUBLIC
    assert sorted(PUBLIC) == PUBLIC


def test_every_public_name_is_there():
    for name in PUBLIC:
        assert getattr(northbound, name) is not None


def test_nothing_else_leaks():
    visible = {
        name
        for name, value in vars(northbound).items()
        if not name.startswith("_") and not isinstance(value, types.ModuleType)
    }
    assert visible == {name for name in PUBLIC if not name.startswith("_")}


def test_modules_that_are_visible_are_our_own():
    for name, value in vars(northbound).items():
        if isinstance(value, types.ModuleType):
            assert value.__name__ == f"northbound.{name}"


def test_every_public_class_and_its_methods_are_described():
    for name in PUBLIC:
        value = getattr(northbound, name)
        if not inspect.isclass(value):
            continue
        assert inspect.getdoc(value), name
        for attribute, member in vars(value).items():
            if not attribute.startswith("_") and (inspect.isfunction(member) or isinstance(member, property)):
                assert inspect.getdoc(member), f"{name}.{attribute}"


def test_every_error_of_the_tree_is_public():
    tree = {name for name, value in vars(errors).items() if inspect.isclass(value) and issubclass(value, Exception)}
    assert tree < set(PUBLIC)
    assert all(issubclass(getattr(northbound, name), northbound.NorthboundError) for name in tree)


def test_the_package_is_typed():
    assert files("northbound").joinpath("py.typed").is_file()
