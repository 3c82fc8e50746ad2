"""AWS IoT policies: the same JSON that is attached to a certificate, evaluated as the service does.

Deny wins, then something must allow; resources match with ``*`` and ``?``; policy variables are filled in. Source: AWS
IoT Developer Guide, "AWS IoT Core policies" and "AWS IoT Core policy actions" (reference A3, A12).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import lru_cache
from typing import Any, Final

REGION: Final = "eu-west-1"
ACCOUNT: Final = "123456789012"
#: Grants everything, as the policy most people begin with does.
ALLOW_ALL: Final[Mapping[str, Any]] = {
    "Version": "2012-10-17",
    "Statement": [{"Effect": "Allow", "Action": "iot:*", "Resource": "*"}],
}


class Policy:
    """One policy document; raises ``ValueError`` where it is not one."""

    def __init__(self, document: Mapping[str, Any]) -> None:
        if document.get("Version") != "2012-10-17":
            raise ValueError('a policy has "Version": "2012-10-17"')
        statements = _many(document.get("Statement"))
        if not statements:
            raise ValueError("a policy has statements")
        self._statements = []
        for statement in statements:
            unknown = set(statement) - {"Sid", "Effect", "Action", "Resource", "Condition"}
            if unknown or statement.get("Effect") not in {"Allow", "Deny"}:
                raise ValueError(f"a statement is malformed: {statement}")
            actions, resources = _many(statement.get("Action")), _many(statement.get("Resource"))
            if not actions or not resources:
                raise ValueError("a statement names actions and resources")
            self._statements.append(
                (statement["Effect"] == "Allow", actions, resources, _attributes(statement.get("Condition")))
            )

    def allows(self, action: str, resource: str, *, client_id: str, attributes: frozenset[str] = frozenset()) -> bool:
        """Return whether ``action`` (``iot:Publish``) may be done to ``resource`` (``topic/a/b``).

        ``attributes`` are the connect attributes asked for (``PersistentConnect``, ``LastWill``): a statement with the
        condition ``iot:ConnectAttributes`` covers only those it names.
        """
        arn = f"arn:aws:iot:{REGION}:{ACCOUNT}:{resource}"
        allowed = False
        for allow, actions, resources, named in self._statements:
            if named is not None and action == "iot:Connect" and not attributes <= named:
                continue
            if not any(_pattern(item).fullmatch(action) for item in actions):
                continue
            if not any(_pattern(_filled(item, client_id)).fullmatch(arn) for item in resources):
                continue
            if not allow:
                return False
            allowed = True
        return allowed


def _many(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [] if value is None else [value]


def _attributes(condition: Any) -> frozenset[str] | None:
    if condition is None:
        return None
    for operator, keys in condition.items():
        if operator != "ForAllValues:StringEquals" or set(keys) != {"iot:ConnectAttributes"}:
            raise ValueError(f"this condition is not known here: {condition}")
        return frozenset(_many(keys["iot:ConnectAttributes"]))
    return None


def _filled(resource: str, client_id: str) -> str:
    # The thing of a certificate, where exclusive, has the name of the client id ("Thing policy variables").
    for variable in ("${iot:ClientId}", "${iot:Connection.Thing.ThingName}"):
        resource = resource.replace(variable, client_id)
    return resource


@lru_cache(maxsize=4096)
def _pattern(text: str) -> re.Pattern[str]:
    return re.compile("".join(".*" if c == "*" else "." if c == "?" else re.escape(c) for c in text), re.DOTALL)
