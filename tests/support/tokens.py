"""Tokens as issuers make them, and a place where they publish their keys."""

from __future__ import annotations

import base64
import json
import threading
import time
from functools import cache
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import jwt
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

ALGORITHMS = ("RS256", "ES256", "EdDSA")


def key(algorithm: str = "ES256", number: int = 0) -> Any:
    """Return a private key; ``number`` tells several of one kind apart. Made once: RSA ones take a while."""
    return _made(algorithm, number)


@cache
def _made(algorithm: str, number: int) -> Any:
    if algorithm.startswith(("RS", "PS")):
        return rsa.generate_private_key(public_exponent=65537, key_size=2048)
    if algorithm == "EdDSA":
        return ed25519.Ed25519PrivateKey.generate()
    return ec.generate_private_key({"ES256": ec.SECP256R1, "ES384": ec.SECP384R1}[algorithm]())


def public_pem(private: Any) -> bytes:
    return private.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)


def jwk(private: Any, kid: str | None, algorithm: str, **more: Any) -> dict[str, Any]:
    found = jwt.get_algorithm_by_name(algorithm).to_jwk(private.public_key(), as_dict=True)
    return {**found, "use": "sig", **({} if kid is None else {"kid": kid}), **more}


def claims(**changed: Any) -> dict[str, Any]:
    """Return what a PlaceOS token says; ``None`` leaves a claim out."""
    now = int(time.time())
    base = {
        "iss": "POS", "iat": now, "exp": now + 7200, "jti": "5b1b0cc5-7ecc-4e0e-9c6c-33c4d7f1ae56",
        "aud": "place.acme.com", "scope": ["public"], "sub": "user-jane",
        "u": {"n": "Jane Doe", "e": "jane.doe@acme.com", "p": 0, "r": []},
    }  # fmt: skip
    return {name: value for name, value in (base | changed).items() if value is not None}


def token(private: Any = None, algorithm: str = "ES256", *, headers: dict | None = None, **changed: Any) -> str:
    return jwt.encode(claims(**changed), private or key(algorithm), algorithm, headers=headers)


def raw(header: Any, payload: Any, signature: bytes = b"") -> str:
    """Return a token put together by hand; bytes are taken as they are."""
    parts = [part if isinstance(part, bytes) else json.dumps(part).encode() for part in (header, payload)]
    return ".".join(base64.urlsafe_b64encode(part).rstrip(b"=").decode() for part in (*parts, signature))


def write_key(folder: Path, private: Any = None, name: str = "key.pem") -> Path:
    path = folder / name
    path.write_bytes(public_pem(private or key()))
    return path


class JwksServer:
    """Publishes keys on a free loopback port. ``answer`` is its next body, ``status`` its status; ``asked`` counts."""

    def __init__(self, *keys: dict[str, Any], ssl: Any = None) -> None:
        self.pause = 0.0  # seconds before each byte
        self.status = 200
        self.asked = 0
        self.headers: dict[str, str] = {}
        self.publish(*keys)
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                outer.asked += 1
                self.send_response(outer.status)
                for name, value in outer.headers.items():
                    self.send_header(name, value)
                self.send_header("Content-Length", str(len(outer.answer)))
                self.end_headers()
                for piece in [outer.answer] if not outer.pause else [bytes((byte,)) for byte in outer.answer]:
                    time.sleep(outer.pause)
                    try:
                        self.wfile.write(piece)
                    except OSError:  # hung up on
                        return

            def log_message(self, *_: Any) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = False
        if ssl is not None:
            self._server.socket = ssl.wrap_socket(self._server.socket, server_side=True)
        self.url = f"{'http' if ssl is None else 'https'}://127.0.0.1:{self._server.server_port}/keys"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True)
        self._thread.start()

    def publish(self, *keys: dict[str, Any]) -> None:
        self.answer = json.dumps({"keys": list(keys)}).encode()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()
