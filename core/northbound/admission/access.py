"""The tables ``[api.access]``: who may see and publish what."""

from __future__ import annotations

import re
from typing import Annotated, Any, Final

import pydantic
from pydantic import Field

from northbound.apikeys import Role
from northbound.fields import TopicFilter

_STRICT = pydantic.ConfigDict(extra="forbid", frozen=True)
#: What stands in a filter for who asks. A level is a placeholder, or has none.
PLACEHOLDERS: Final = ("root", "org", "user")
_BRACES: Final = re.compile(r"[{}]")


def _template(text: Any) -> Any:
    if not isinstance(text, str):
        return text
    for level in text.split("/"):
        if _BRACES.search(level) and level not in {f"{{{name}}}" for name in PLACEHOLDERS}:
            known = ", ".join(f"{{{name}}}" for name in PLACEHOLDERS)
            raise ValueError(f"a level with braces is one of {known}, whole")
    return text


#: A topic filter with placeholders: ``{root}/{org}/state/#``.
FilterTemplate = Annotated[TopicFilter, pydantic.BeforeValidator(_template)]


class AccessRuleOptions(pydantic.BaseModel):
    """What one rule gives. What several give adds up; what none gives is refused."""

    model_config = _STRICT

    roles: tuple[Role, ...] = Field(("user", "support", "admin"), min_length=1, description="Whom it is for.")
    users: tuple[Annotated[str, Field(min_length=1)], ...] | None = Field(
        None,
        min_length=1,
        description="Only these: subjects of tokens of any issuer, users of API keys, and names of those without one.",
    )
    issuers: tuple[Annotated[str, Field(min_length=1)], ...] | None = Field(
        None, min_length=1, description="Only whose token is of one of these issuers, by its name here; no API key."
    )
    read: tuple[FilterTemplate, ...] = Field(
        (), description="What they see: topic filters, with {root}, {org}, {user}."
    )
    publish: tuple[FilterTemplate, ...] = Field(
        (), description="Where they may publish, if their token or key is for writing. Never at '$' topics."
    )


_DEFAULT: Final = (
    AccessRuleOptions(roles=("user",), read=("{root}/{org}/#", "$SYS/broker/version", "$SYS/broker/uptime")),
    AccessRuleOptions(roles=("support", "admin"), read=("{root}/{org}/#", "$SYS/#"), publish=("{root}/{org}/#",)),
)


class AccessOptions(pydantic.BaseModel):
    """Who may see and publish what."""

    model_config = _STRICT

    default: bool = Field(
        True,
        description="Whether everybody sees what is of their organisation, and support and admin publish there. "
        "false: only what the rules give.",
    )
    rules: tuple[AccessRuleOptions, ...] = Field((), max_length=1000, description="More of what is given.")

    @property
    def all_rules(self) -> tuple[AccessRuleOptions, ...]:
        """Every rule, the default ones first."""
        return (*(_DEFAULT if self.default else ()), *self.rules)
