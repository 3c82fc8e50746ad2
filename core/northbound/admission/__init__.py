"""Who is let in by the API, and to what: the tables ``[api.auth]`` and ``[api.access]``."""

from northbound.admission.access import AccessOptions, AccessRuleOptions
from northbound.admission.auth import AuthOptions, IssuerOptions, ThrottleOptions

__all__ = ["AccessOptions", "AccessRuleOptions", "AuthOptions", "IssuerOptions", "ThrottleOptions"]
