"""What a connector signs in with: until when it holds, and the files it stands in."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path

from msgspec import Struct


class Credential(Struct, frozen=True):
    """A certificate, a key or a token.

    ``name`` is what people call it (``certificate``, ``SAS token``). ``expires`` has a time zone; ``None`` where it
    does not expire or nobody can tell. ``renewed`` says that the connector gets a new one by itself.
    """

    name: str
    expires: datetime | None = None
    files: tuple[Path, ...] = ()
    renewed: bool = False

    @classmethod
    def of_certificate(cls, name: str, certificate: Path | bytes, *files: Path) -> Credential:
        """Return the credential of a PEM certificate, in a file or as text; ``files`` are watched beside it.

        Of a chain the certificate that expires first counts. One that cannot be read has no ``expires``: opening
        the connection says what is wrong with it.
        """
        from cryptography import x509  # noqa: PLC0415 - slow to import, and needed by few

        if isinstance(certificate, Path):
            files = (certificate, *files)
        try:
            pem = certificate.read_bytes() if isinstance(certificate, Path) else certificate
            expires = min(found.not_valid_after_utc for found in x509.load_pem_x509_certificates(pem))
        except (OSError, ValueError):
            expires = None
        return cls(name, expires, files)


#: Of each file what changes when it is replaced: inode, time of change in ns, size; ``None`` where there is none.
Print = tuple[int, int, int] | None


def fingerprint(files: tuple[Path, ...]) -> tuple[Print, ...]:
    """Return what tells a replaced file from the one before."""
    return tuple(map(_print, files))


def _print(path: Path) -> Print:
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_ino, found.st_mtime_ns, found.st_size
