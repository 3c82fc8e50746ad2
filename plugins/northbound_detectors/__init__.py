"""The detectors that come with northbound: what personal data in building state looks like."""

from __future__ import annotations

from collections.abc import Mapping

import northbound
from northbound_detectors.card import Card
from northbound_detectors.coordinates import Coordinates
from northbound_detectors.email import Email
from northbound_detectors.ip import Ip
from northbound_detectors.mac import Mac
from northbound_detectors.person import Person
from northbound_detectors.phone import Phone
from northbound_detectors.regex import Regex
from northbound_detectors.token import Token
from northbound_detectors.url_credentials import UrlCredentials
from northbound_detectors.user_id import UserId

__all__ = [
    "Card",
    "Coordinates",
    "Email",
    "Ip",
    "Mac",
    "Person",
    "Phone",
    "Regex",
    "Token",
    "UrlCredentials",
    "UserId",
    "northbound_detectors",
]


@northbound.hookimpl
def northbound_detectors() -> Mapping[str, type[northbound.Detector]]:
    """Provide every built-in type."""
    return {
        "card": Card,
        "coordinates": Coordinates,
        "email": Email,
        "ip": Ip,
        "mac": Mac,
        "person": Person,
        "phone": Phone,
        "regex": Regex,
        "token": Token,
        "url_credentials": UrlCredentials,
        "user_id": UserId,
    }
