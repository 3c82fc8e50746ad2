"""PlaceOS's ``broker`` rows as connectors, with what PlaceOS accepted and never did."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any, Final

from northbound import Imported

#: The numbers of ``auth_type`` (reference: broker model).
_CERTIFICATE, _NONE = 0, 1
_DEFAULT_PORT: Final = 1883
_KEY: Final = "PRIVATE KEY"
#: What makes a regular expression more than the text it is.
_SPECIAL: Final = re.compile(r"[\\^$.|?*+()\[\]{}]")


def imported(row: Mapping[str, Any]) -> Imported:
    """Return a broker as a connector."""
    tls = bool(row.get("tls"))
    host, port = str(row.get("host") or "").strip(), row.get("port") or _DEFAULT_PORT
    host = f"[{host}]" if ":" in host and not host.startswith("[") else host
    options: dict[str, Any] = {"url": f"{'mqtts' if tls else 'mqtt'}://{host}:{port}"}
    secrets: dict[str, str] = {}
    remarks = [*_tls(row, tls=tls, port=port), *_signing_in(row, options, secrets)]
    if row.get("id"):
        remarks.append(
            f"PlaceOS signs in as {row['id']!r}; here the client id is another, so that both can run side by side"
        )
    filters, words = _filters(row.get("filters") or ())
    return Imported(
        name=str(row.get("name") or row.get("id") or "broker"),
        type="mqtt",
        options=options,
        secrets=secrets,
        filters=filters,
        filter_secret=row.get("secret") or None,
        remarks=(*remarks, *words),
    )


def _tls(row: Mapping[str, Any], *, tls: bool, port: int) -> list[str]:
    remarks = []
    if tls:
        remarks.append("PlaceOS never checked the broker's certificate; here it is checked: name 'ca' if it is private")
        if port == _DEFAULT_PORT:
            remarks.append(f"TLS on port {port}: that is PlaceOS's default, brokers mostly have TLS on 8883")
    certificate = row.get("certificate")
    if row.get("auth_type") == _CERTIFICATE:
        remarks.append(
            "PlaceOS accepted certificate authentication and never did it: name 'certificate' and 'private_key' here"
        )
    elif certificate:
        remarks.append("PlaceOS stored a certificate and never used it: it is not taken over")
    if certificate and _KEY in certificate:
        remarks.append("that certificate holds a private key, readable to whoever may read the table: replace it")
    return remarks


def _signing_in(row: Mapping[str, Any], options: dict[str, Any], secrets: dict[str, str]) -> list[str]:
    username, password = row.get("username"), row.get("password")
    remarks = []
    if username:
        options["username"] = username
    if password:
        secrets["password"] = password
        if not username:
            options["version"] = "5"
            remarks.append("a password without a user name: only version 5 of MQTT can say that")
    if (username or password) and row.get("auth_type") == _NONE:
        remarks.append(
            "it is set to no authentication, and PlaceOS sent user name and password all the same: so does this"
        )
    return remarks


def _filters(filters: Iterable[str]) -> tuple[tuple[str, ...], list[str]]:
    kept = tuple(text for text in filters if text)
    literal = [text for text in kept if _SPECIAL.search(text)]
    remarks = []
    if literal:
        remarks.append(
            "PlaceOS took these filters for plain text, so they hashed nothing that was meant; here they are regular "
            f"expressions: {', '.join(map(repr, literal))}"
        )
    if kept:
        remarks.append(
            "PlaceOS hashed in the JSON's text, here values, keys and topics are looked at: try the rule with "
            "'northbound preview'"
        )
    return kept, remarks
