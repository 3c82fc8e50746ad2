"""What is taken as a key that tokens are verified with."""

import base64
import datetime as dt
import os

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import dsa, ec, ed448, rsa, x25519
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_der_public_key,
)
from tests.support.tokens import key, public_pem

from northbound.admission import AuthOptions
from northbound.admission.publickeys import algorithms_of, read_pem

#: The public half of the key pair that PlaceOS's services use where none is configured; its private half is public too.
DEVELOPMENT_KEY = """\
MIIBIjANBgkqhkiG9w0BAQEFAAOCAQ8AMIIBCgKCAQEAt01C9NBQrA6Y7wyIZtsyur191SwSL3MjR58RIjZ5SEbSyzMG3r9v12qka4UtpB2FmON2vwn0
fl/7i3Jgh1Xth/s+TqgYXMebdd123wodrbex5pi3Q7PbQFT6hhNpnsjBh9SubTf+IeTIFeXUyqtqcDBmEoT5GxU6O+Wuch2GtbfEAmaDroy+uyB7P5Dx
pKLEx8nlVYgpx5g2mx2LufHvykVnx4bFzLezU93SIEW6yjPwUmv9R+wDM/AOg60dIf3hCh1DO+h22aKT8D8ysuFodpLTKCToI/AbK4IYOOgyGHZ7xizX
HYXZdsqX5/zBFXu/NOVrSd/QBYYuCxbqe6tz4wIDAQAB
"""


def written(folder, content):
    path = folder / "key.pem"
    path.write_bytes(content)
    return path


def spki(public):
    return public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)


@pytest.mark.parametrize("algorithm", ["RS256", "ES256", "ES384", "EdDSA"])
def test_a_public_key_is_for_its_own_algorithms(algorithm, tmp_path):
    found = read_pem(written(tmp_path, public_pem(key(algorithm))))
    assert algorithm in algorithms_of(found)
    assert not any(name.startswith("HS") for name in algorithms_of(found))


def test_a_certificate_and_placeoss_base64_are_read_too(tmp_path):
    private = key("RS256")
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "x")])
    day = dt.datetime(2026, 1, 1, tzinfo=dt.UTC)
    certificate = (
        x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(private.public_key())
        .serial_number(1).not_valid_before(day).not_valid_after(day + dt.timedelta(days=1))
        .sign(private, hashes.SHA256())
    )  # fmt: skip
    expected = private.public_key().public_numbers()
    pem = public_pem(private)
    for content in (certificate.public_bytes(Encoding.PEM), base64.b64encode(pem), base64.encodebytes(pem), pem):
        assert read_pem(written(tmp_path, content)).public_numbers() == expected


def test_placeoss_development_key_is_refused_in_every_form(tmp_path):
    der = base64.b64decode(DEVELOPMENT_KEY)
    public = load_der_public_key(der)
    pem = spki(public)
    pkcs1 = public.public_bytes(Encoding.PEM, PublicFormat.PKCS1)
    for content in (pem, base64.b64encode(pem), pkcs1):
        with pytest.raises(ValueError, match="development key"):
            read_pem(written(tmp_path, content))
    options = {"mapping": "placeos", "audience": ["a"], "keys": [str(tmp_path / "key.pem")]}
    with pytest.raises(ValueError, match=r"key\.pem is PlaceOS's development key"):
        AuthOptions.model_validate({"issuers": {"x": options}})


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: spki(rsa.generate_private_key(65537, 1024).public_key()), "1024 bits"),
        (lambda: spki(ec.generate_private_key(ec.SECP256K1()).public_key()), "kind"),
        (lambda: spki(ed448.Ed448PrivateKey.generate().public_key()), "kind"),
        (lambda: spki(x25519.X25519PrivateKey.generate().public_key()), "kind"),
        (lambda: spki(dsa.generate_private_key(1024).public_key()), "kind"),
        (lambda: key().private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()), "private key"),
        (
            lambda: base64.b64encode(key().private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())),
            "private key",
        ),
        (lambda: b"", "no public key|neither"),
        (lambda: b"ssh-ed25519 AAAA", "neither"),
        (lambda: b"-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n", "no public key"),
        (lambda: b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n", "no public key"),
        (lambda: os.urandom(100), "neither"),
        (lambda: b"-----BEGIN" * 10_000, "64 KiB"),
    ],
)
def test_anything_else_is_refused_with_the_reason(make, words, tmp_path):
    with pytest.raises(ValueError, match=words):
        read_pem(written(tmp_path, make()))


def test_what_a_problem_says_holds_nothing_of_the_file(tmp_path):
    path = written(tmp_path, b"-----BEGIN PUBLIC KEY-----\ncanary\n-----END PUBLIC KEY-----\n")
    with pytest.raises(ValueError, match="no public key") as caught:
        read_pem(path)
    assert "canary" not in str(caught.value)
