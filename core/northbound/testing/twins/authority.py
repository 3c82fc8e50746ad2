"""A throw-away certificate authority: server and client certificates of any validity, as PEM files in a folder."""

from __future__ import annotations

import ipaddress
import ssl
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final, Literal, NamedTuple

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

_PrivateKey = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey
_DAY: Final = timedelta(days=1)
_BACKDATED: Final = timedelta(minutes=5)
#: The names a twin on this machine is reached by; 127.0.0.9 where an SDK forces a port that is taken on 127.0.0.1.
LOOPBACK: Final = ("localhost", "127.0.0.1", "127.0.0.9", "::1")


class Pair(NamedTuple):
    """A certificate and its private key, both as files (PEM); ``parsed`` is the certificate itself."""

    certificate: Path
    private_key: Path
    parsed: x509.Certificate

    @property
    def thumbprint(self) -> str:
        """SHA-1 of the certificate in upper-case hexadecimal, the form in which Azure lists it."""
        return self.parsed.fingerprint(hashes.SHA1()).hex().upper()  # noqa: S303 - a name, not a protection


class Authority:
    """Signs certificates; ``ca`` is its own (PEM), which whoever connects must be told to trust."""

    def __init__(self, folder: Path, *, name: str = "northbound test CA") -> None:
        self._folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = _name(name)
        self._made = 0
        now = datetime.now(UTC)
        builder = (
            x509.CertificateBuilder()
            .subject_name(self._name)
            .issuer_name(self._name)
            .public_key(self._key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - _DAY)
            .not_valid_after(now + 30 * _DAY)
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .add_extension(_usage(ca=True), critical=True)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(self._key.public_key()), critical=False)
        )
        self.certificate = builder.sign(self._key, hashes.SHA256())
        self.ca = folder / "ca.pem"
        self.ca.write_bytes(self.certificate.public_bytes(serialization.Encoding.PEM))

    def server(self, names: Sequence[str] = LOOPBACK, *, valid: timedelta = _DAY, file: str | None = None) -> Pair:
        """Return a server certificate for host names and IP addresses."""
        alternatives = [_alternative(name) for name in names]
        return self._issue(names[0], ExtendedKeyUsageOID.SERVER_AUTH, alternatives, valid, _BACKDATED, "ec", file)

    def client(
        self,
        common_name: str,
        *,
        valid: timedelta = _DAY,
        since: timedelta = _BACKDATED,
        key: Literal["ec", "rsa"] = "ec",
        file: str | None = None,
    ) -> Pair:
        """Return a client certificate that began ``since`` ago and ends after ``valid`` from now (negative: it has).

        ``file`` names the two files (``<file>.pem``, ``<file>.key``); existing ones are replaced, the key first, each
        in one step.
        """
        return self._issue(common_name, ExtendedKeyUsageOID.CLIENT_AUTH, [], valid, since, key, file)

    def server_context(
        self,
        pair: Pair,
        *,
        clients: Literal["none", "optional", "required"] = "none",
        alpn: Sequence[str] = (),
    ) -> ssl.SSLContext:
        """Return a context for a server with this certificate that believes this authority's client certificates."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.load_cert_chain(pair.certificate, pair.private_key)
        if clients != "none":
            context.load_verify_locations(self.ca)
            context.verify_mode = ssl.CERT_REQUIRED if clients == "required" else ssl.CERT_OPTIONAL
        if alpn:
            context.set_alpn_protocols(list(alpn))
        return context

    def client_context(self, pair: Pair | None = None) -> ssl.SSLContext:
        """Return a context for a client that trusts this authority alone and shows ``pair``."""
        context = ssl.create_default_context(cafile=self.ca)
        if pair is not None:
            context.load_cert_chain(pair.certificate, pair.private_key)
        return context

    def _issue(
        self,
        common_name: str,
        purpose: x509.ObjectIdentifier,
        alternatives: Sequence[x509.GeneralName],
        valid: timedelta,
        since: timedelta,
        kind: Literal["ec", "rsa"],
        file: str | None,
    ) -> Pair:
        key: _PrivateKey
        if kind == "rsa":
            key = rsa.generate_private_key(public_exponent=65_537, key_size=2048)
        else:
            key = ec.generate_private_key(ec.SECP256R1())
        now = datetime.now(UTC)
        ends = now + valid
        builder = (
            x509.CertificateBuilder()
            .subject_name(_name(common_name))
            .issuer_name(self._name)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(min(now - since, ends - _BACKDATED))
            .not_valid_after(ends)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(_usage(ca=False), critical=True)
            .add_extension(x509.ExtendedKeyUsage([purpose]), critical=False)
            .add_extension(
                x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key()),
                critical=False,
            )
        )
        if alternatives:
            builder = builder.add_extension(x509.SubjectAlternativeName(alternatives), critical=False)
        return self._write(builder.sign(self._key, hashes.SHA256()), key, file)

    def _write(self, certificate: x509.Certificate, key: _PrivateKey, file: str | None) -> Pair:
        self._made += 1
        stem = file or f"{self._made}"
        pair = Pair(self._folder / f"{stem}.pem", self._folder / f"{stem}.key", certificate)
        secret = key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        for path, data in (
            (pair.private_key, secret),
            (pair.certificate, certificate.public_bytes(serialization.Encoding.PEM)),
        ):
            fresh = path.with_suffix(path.suffix + ".new")
            fresh.write_bytes(data)
            fresh.chmod(0o600)
            fresh.replace(path)
        return pair


def _name(common_name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])


def _alternative(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)


def _usage(*, ca: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=True,
        key_encipherment=not ca,
        key_cert_sign=ca,
        crl_sign=ca,
        content_commitment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )
