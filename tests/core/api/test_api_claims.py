"""What the tokens of known providers say, as they are documented, and what of it counts."""

import pytest

from northbound.admission import IssuerOptions
from northbound.api.claims import ClaimReader
from northbound.api.identity import SignInRefused

END = 1_900_000_000
ENTRA = {
    "aud": "6e74172b-be56-4843-9ff4-e66a39bb12e3", "iss": "https://login.microsoftonline.com/72f988bf/v2.0",
    "exp": END, "name": "Abe Lincoln", "oid": "690222be-ff1a-4d56-abd1-7e4f7d38e474",
    "preferred_username": "abe@acme.com", "roles": ["Building.Admin"], "scp": "user_impersonation Mqtt.Read",
    "sub": "HKZpfaHyWadeOouYlitjrI-KffTm222X5rrV3xDqfKQ",
    "tid": "72f988bf", "ver": "2.0",
}  # fmt: skip
KEYCLOAK = {
    "exp": END, "iss": "https://sso.acme.com/realms/acme", "aud": ["northbound", "account"], "sub": "f1c4f64e",
    "azp": "dashboard", "realm_access": {"roles": ["offline_access", "northbound-support"]},
    "resource_access": {"my.app": {"roles": ["operator"]}}, "scope": "openid mqtt profile", "preferred_username": "ada",
    "organization": ["acme"],
}  # fmt: skip
AUTH0 = {
    "iss": "https://acme.eu.auth0.com/", "sub": "auth0|6553da60a54af58e29493993", "exp": END,
    "aud": ["https://northbound.acme.com", "https://acme.eu.auth0.com/userinfo"], "scope": "openid read:mqtt",
    "org_id": "org_9ybsU1dN2dKfDkBi", "permissions": ["read:mqtt", "write:mqtt", "northbound-admin"],
    "https://acme.com/roles": ["facility"],
}  # fmt: skip
RFC9068 = {
    "iss": "https://as.acme.com/", "sub": "5ba552d67", "aud": "https://rs.acme.com/", "exp": END, "scope": "mqtt.read",
    "roles": ["northbound-support"], "client_id": "s6BhdRkqt3",
}  # fmt: skip


def reader(mapping, site_org="acme", **more):
    base = {"mapping": mapping, "audience": ["a"], "secret": "s" * 32, "issuer": "https://x.acme.com/v2.0"}
    return ClaimReader(IssuerOptions.model_validate(base | more), site_org=site_org)


def read(mapping, claims, site_org="acme", /, **more):
    return reader(mapping, site_org, **more).identity(claims, leeway=0)


def refusal(mapping, claims, site_org="acme", /, **more):
    with pytest.raises(SignInRefused) as caught:
        read(mapping, claims, site_org, **more)
    return caught.value.reason, caught.value.words


def test_entra_id():
    who = read("entra-id", ENTRA, roles={"Building.Admin": "admin"})
    assert (who.subject, who.name, who.role, who.org) == (ENTRA["oid"], "Abe Lincoln", "admin", "acme")
    assert who.scopes == {"mqtt.read"}
    assert read("entra-id", ENTRA).role == "user"
    application = {**ENTRA, "scp": None, "roles": ["Mqtt.Read", "Mqtt.Write", "northbound-admin"], "name": None}
    who = read("entra-id", application)
    assert (who.role, who.scopes, who.name) == ("admin", {"mqtt.read", "mqtt.write"}, "abe@acme.com")
    assert refusal("entra-id", {**ENTRA, "scp": "user_impersonation"})[0] == "not_authorised"
    assert read("entra-id", {**ENTRA, "scp": "user_impersonation"}, scopes={"user_impersonation": "mqtt"}).writes


def test_keycloak():
    who = read("keycloak", KEYCLOAK)
    assert (who.subject, who.name, who.role, who.org, who.scopes) == ("f1c4f64e", "ada", "support", "acme", {"mqtt"})
    assert read("keycloak", {**KEYCLOAK, "organization": {"acme": {"id": "42c3"}}}, None).org == "acme"
    assert "several" in refusal("keycloak", {**KEYCLOAK, "organization": ["acme", "other"]})[1]
    for gone in ([], {}, None, "", 7):
        assert "no organisation" in refusal("keycloak", {**KEYCLOAK, "organization": gone})[1]
    one = {name: value for name, value in KEYCLOAK.items() if name != "organization"}
    assert read("keycloak", one, org="org-acme").org == "org-acme"
    client = {"role": ["resource_access", "my.app", "roles"]}
    assert read("keycloak", KEYCLOAK, claims=client, roles={"operator": "admin"}).role == "admin"


def test_auth0():
    who = read("auth0", AUTH0)
    assert (who.subject, who.name) == ("auth0|6553da60a54af58e29493993",) * 2
    assert (who.role, who.org, who.scopes) == ("admin", "org_9ybsU1dN2dKfDkBi", {"mqtt.read", "mqtt.write"})
    custom = read("auth0", AUTH0, claims={"role": "https://acme.com/roles"}, roles={"facility": "support"})
    assert custom.role == "support"
    assert read("auth0", AUTH0, orgs={"org_9ybsU1dN2dKfDkBi": "org-acme"}).org == "org-acme"
    assert "no organisation" in refusal("auth0", AUTH0, orgs={"org_other": "org-acme"})[1]


def test_the_standard():
    who = read("standard", RFC9068)
    assert (who.subject, who.role, who.org, who.scopes) == ("5ba552d67", "support", "acme", {"mqtt.read"})
    assert "no organisation" in refusal("standard", RFC9068, None)[1]
    assert (
        read("standard", {**RFC9068, "tenant": {"id": "t1"}}, claims={"org": "tenant.id"}, orgs={"t1": "o1"}).org
        == "o1"
    )


def test_a_scope_of_placeos_means_nothing_elsewhere():
    assert refusal("standard", {**RFC9068, "scope": "public"})[0] == "not_authorised"
    assert read("standard", {**RFC9068, "scope": "public"}, scopes={"public": "mqtt.read"}).scopes == {"mqtt.read"}
    assert read("standard", {**RFC9068, "scope": None}, default_scopes=["mqtt.read"]).scopes == {"mqtt.read"}


def test_placeos_domains_become_organisations():
    claims = {"sub": "u", "exp": END, "aud": "b.acme.com", "scope": ["public"], "u": {"n": "N", "p": 0}}
    orgs = {"a.acme.com": "org-a", "b.acme.com": "org-b"}
    assert read("placeos", claims, orgs=orgs, issuer=None).org == "org-b"
    assert read("placeos", claims, issuer=None).org == "acme"
    assert "no organisation" in refusal("placeos", {**claims, "aud": "c.acme.com"}, orgs=orgs)[1]
    assert "several" in refusal("placeos", {**claims, "aud": ["a.acme.com", "b.acme.com"]}, orgs=orgs)[1]


def test_a_role_that_is_bound_to_no_organisation():
    admin = {**RFC9068, "roles": ["northbound-admin"]}
    assert read("standard", admin, every_org=["admin"]).every_org
    assert read("standard", admin, None, every_org=["admin"]).every_org
    assert not read("standard", RFC9068, every_org=["admin"]).every_org
    assert not read("standard", {**admin, "every_org": True}).every_org


def test_of_several_roles_the_highest_counts():
    assert read("standard", {**RFC9068, "roles": ["x", "northbound-admin", "northbound-support"]}).role == "admin"
    assert read("standard", {**RFC9068, "roles": "northbound-admin"}).role == "admin"
    for strange in (None, [], {}, {"northbound-admin": 1}, 3, True, [["northbound-admin"]]):
        assert read("standard", {**RFC9068, "roles": strange}).role == "user"


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"mapping": "standard", "issuer": None, "secret": "s" * 32}, "name the issuer"),
        ({"mapping": "standard", "secret": None}, "keys, jwks or secret"),
        ({"mapping": "placeos", "secret": None}, "keys, jwks or secret"),
        ({"audience": []}, "at least 1"),
        ({"secret": "short"}, "32 bytes"),
        ({"secret": "-----BEGIN PUBLIC KEY-----" + "x" * 40}, "PEM"),
        ({"jwks": "http://keys.acme.com/"}, "https"),
        ({"jwks": "file:///etc/passwd"}, "https"),
        ({"jwks": "ftp://x/"}, "https"),
        ({"jwks": "https://user:pass@x/"}, "user name"),
        ({"jwks": "https://[x/"}, "URL"),
        ({"jwks": "https://x/\n"}, "URL"),
        ({"mapping": "keycloak", "secret": None, "issuer": "POS"}, "https"),
        ({"mapping": "entra-id", "secret": None, "issuer": "https://sts.windows.net/x/"}, "/v2.0"),
        ({"org": "a", "orgs": {"b": "c"}}, "'org' for everybody"),
        ({"mapping": "placeos", "audience": ["a", "b"]}, "several domains"),
        ({"keys": ["/nowhere/key.pem"]}, "No such file"),
        ({"algorithms": ["HS256"]}, "RS256"),
        ({"algorithms": ["none"]}, "RS256"),
        ({"roles": {"x": "root"}}, "admin"),
        ({"unknown": 1}, "Extra"),
    ],
)
def test_an_issuer_that_cannot_be_meant_is_refused(changed, words):
    base = {"mapping": "standard", "issuer": "https://x/", "audience": ["a"], "secret": "s" * 32}
    with pytest.raises(ValueError, match=words):
        IssuerOptions.model_validate(base | changed)


@pytest.mark.parametrize(
    ("mapping", "issuer", "jwks"),
    [
        (
            "entra-id",
            "https://login.microsoftonline.com/T/v2.0",
            "https://login.microsoftonline.com/T/discovery/v2.0/keys",
        ),
        ("keycloak", "https://s/realms/r", "https://s/realms/r/protocol/openid-connect/certs"),
        ("auth0", "https://acme.eu.auth0.com/", "https://acme.eu.auth0.com/.well-known/jwks.json"),
    ],
)
def test_where_the_keys_of_known_providers_are(mapping, issuer, jwks):
    options = {"mapping": mapping, "issuer": issuer, "audience": ["a"]}
    assert IssuerOptions.model_validate(options).jwks_url == jwks
    assert IssuerOptions.model_validate(options | {"jwks": "https://y/"}).jwks_url == "https://y/"
