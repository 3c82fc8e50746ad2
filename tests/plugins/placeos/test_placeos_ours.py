"""Which stored topics are taken for this installation's."""

from __future__ import annotations

import pytest
from tests.support.intake import RecordingIntake

from northbound import Address, MetadataAddress
from northbound_placeos.ours import Ours


def ours(*orgs: str, org: str | None = None, checkpoint: bytes | None = None) -> Ours:
    made = Ours(RecordingIntake(org=org, checkpoint=checkpoint))
    made.learn(set(orgs))
    return made


def state(org="org-1", system="sys-1", driver="driver-1") -> Address:
    return Address(org, (None, None, None), system, driver, "Display", 1, "power")


@pytest.mark.parametrize(
    ("address", "owned"),
    [
        (state(), True),
        (state(org="org-2"), False),
        (state(system="room-1"), False),
        (state(driver="bacnet"), False),
        (MetadataAddress("org-1", "zone-7"), True),
        (MetadataAddress("org", "zone-7"), True),  # as PlaceOS writes it
        (MetadataAddress("org-2", "zone-7"), False),
        (MetadataAddress("org-1", "floor-plan"), False),
    ],
)
def test_ids_of_placeos_under_an_organisation_that_was_ours(address, owned):
    assert ours("org-1").owns(address) is owned


def test_the_organisation_of_the_site_is_ours():
    assert ours(org="fallback").owns(state(org="fallback"))


def test_organisations_are_remembered_over_a_restart():
    first = ours("org-1", "org-2")
    assert first.changed
    again = ours(checkpoint=first.checkpoint())
    assert not first.changed
    assert again.owns(state(org="org-2"))
    again.learn({"org-1"})
    assert not again.changed


@pytest.mark.parametrize("checkpoint", [b"", b"{}", b"no json", b"[1]"])
def test_a_checkpoint_that_is_none_is_forgotten(checkpoint):
    assert not ours(checkpoint=checkpoint).owns(state())


def test_a_checkpoint_is_bounded_and_what_it_leaves_out_is_told_once(caplog):
    made = ours(*(f"zone-{number:060}" for number in range(500)))
    for _ in range(2):
        assert 3800 < len(made.checkpoint()) <= 4096
    (told,) = caplog.messages
    assert "of 500 organisations the checkpoint holds 58" in told
