"""What can be set, and the addresses of the two databases taken apart."""

from __future__ import annotations

import ssl
from datetime import timedelta
from typing import Any, Final, Literal, NamedTuple
from urllib.parse import parse_qsl, unquote, urlsplit

import pydantic
from pydantic import ByteSize, ConfigDict, Field, SecretStr

from northbound import ConfigPath, Duration

#: libpq's TLS modes that check whom they speak to, and the one that does not encrypt at all.
_SSLMODES: Final = ("disable", "verify-ca", "verify-full")
#: A connection that has died is noticed after about this long (seconds).
SILENCE_SECONDS: Final = 30


class RedisAddress(NamedTuple):
    """Where Redis is, and who we are to it."""

    host: str
    port: int
    path: str | None
    tls: bool
    username: str | None
    password: str | None
    database: int

    @property
    def where(self) -> str:
        """The address for people, without secrets."""
        return self.path or f"{self.host}:{self.port}"


def redis_address(url: str) -> RedisAddress:
    """Return ``redis://[user:password@]host[:6379][/database]``, ``rediss://…`` or ``unix:///path`` taken apart.

    Raises ``ValueError``, which never quotes the URL: it may hold a password.
    """
    try:
        parts = urlsplit(url)
        port = parts.port or 6379
    except ValueError:
        raise ValueError("write redis://[user:password@]host[:6379][/database], or rediss:// for TLS") from None
    if parts.scheme not in ("redis", "rediss", "unix"):
        raise ValueError("begin the address of Redis with redis://, rediss:// (TLS) or unix://")
    username = unquote(parts.username) if parts.username else None
    password = unquote(parts.password) if parts.password else None
    if parts.scheme == "unix":
        if not parts.path:
            raise ValueError("unix:// needs the path of the socket")
        database = dict(parse_qsl(parts.query)).get("db", "0")
        path, host = unquote(parts.path), ""
    else:
        if parts.query:
            raise ValueError(
                "an address of Redis takes no '?…' options: TLS is always verified, and the rest are keys here"
            )
        database, path, host = parts.path.strip("/") or "0", None, parts.hostname or ""
        if not host:
            raise ValueError("the address of Redis names no host")
    if not database.isascii() or not database.isdigit() or len(database) > 5:
        raise ValueError("the database of Redis is a number")
    return RedisAddress(host, port, path, parts.scheme == "rediss", username, password, int(database))


def parsed_conninfo(text: str) -> dict[str, Any]:
    """Return a connection string taken apart; raises ``ValueError``, which never quotes it."""
    try:
        import psycopg.conninfo  # noqa: PLC0415 - slow to import: only where the source is configured
    except ImportError as error:  # found, or the plugin would not have loaded, but not whole
        raise ValueError(f"psycopg does not load ({error}): pip install 'northbound[placeos]'") from None
    try:
        return dict(psycopg.conninfo.conninfo_to_dict(text))
    except psycopg.Error:
        raise ValueError(
            "write postgresql://user:password@host[:5432]/database, or key=value pairs as libpq takes"
        ) from None


def postgres_conninfo(url: str, ca: str | None) -> str:
    """Return the connection string of ``url`` with what we add; raises ``ValueError``, which never quotes it."""
    given = parsed_conninfo(url)
    # A part of the password stands in them then, and they are told.
    port, told = str(given.get("port", "")), (given.get("host", ""), given.get("dbname", "") if "://" in url else "")
    if any("@" in part for part in told) or port.strip("0123456789,"):
        raise ValueError("write @ in a password as %40 and / as %2F")
    mode = given.get("sslmode") or ("verify-full" if ca or given.get("sslrootcert") else "disable")
    if mode not in _SSLMODES:
        raise ValueError(
            f"sslmode={mode} would encrypt without checking whom it speaks to: write verify-full and name postgres_ca "
            "(or sslrootcert=system in the address), or disable"
        )
    added: dict[str, Any] = {
        "application_name": "northbound",
        "connect_timeout": 10,
        "keepalives_idle": SILENCE_SECONDS // 3,
        "keepalives_interval": SILENCE_SECONDS // 6,
        "keepalives_count": 3,
        "tcp_user_timeout": SILENCE_SECONDS * 1000,
    }
    given["sslmode"] = mode
    if ca:
        given["sslrootcert"] = ca
    from psycopg.conninfo import make_conninfo  # noqa: PLC0415 - as above

    return make_conninfo("", **{**added, **given})


class Options(pydantic.BaseModel):
    """Reads a PlaceOS installation: its state tree, live, from Redis and PostgreSQL. Nothing is written to either."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    redis: SecretStr = Field(
        description="Redis: redis://[user:password@]host[:6379][/database], rediss:// for TLS, or unix:///path."
    )
    redis_ca: ConfigPath | None = Field(
        None, description="File of the CA certificates (PEM) that Redis' is checked against. Default: the system's."
    )
    postgres: SecretStr = Field(description="PostgreSQL: postgresql://user:password@host[:5432]/database.")
    postgres_ca: ConfigPath | None = Field(
        None, description="File of the CA certificates (PEM) that PostgreSQL's is checked against; turns TLS on."
    )
    walk_parents: bool = Field(
        False, description="true: a system is also on the levels above the zones it lists, as zones' parents say."
    )
    metadata: Literal["essential", "full"] = Field(
        "essential", description="'essential': names, capacities and the like; 'full': every column, as PlaceOS sends."
    )
    stopped: Literal["disconnected", "clear", "keep"] = Field(
        "disconnected",
        description="A stopped module: its 'connected' is false, or all its values are cleared, or they are kept.",
    )
    removed: Literal["clear", "null"] = Field(
        "clear", description="A status that is gone: its topic is cleared; or it has the value null, as PlaceOS sends."
    )
    restart_window: Duration = Field(
        timedelta(seconds=2),
        le=timedelta(minutes=10),
        description="How long a status may be gone before it counts: a module that restarts drops all of its own.",
    )
    coalesce: Duration = Field(
        timedelta(milliseconds=10),
        le=timedelta(seconds=10),
        description="Of changes of one status so close together only the last is sent. 0: each is.",
    )
    reread: Duration = Field(
        timedelta(minutes=10),
        ge=timedelta(seconds=1),
        description="In so long all is read once more, a little at a time: Redis lets a status expire in silence.",
    )
    changes: Literal["auto", "feed", "poll"] = Field(
        "auto",
        description="How changed rows are noticed: by PlaceOS's change feed or by comparing. 'auto': the feed if any.",
    )
    poll_interval: Duration = Field(
        timedelta(seconds=10),
        ge=timedelta(milliseconds=100),
        description="Without the feed, how often rows are compared.",
    )
    max_value_bytes: ByteSize = Field(
        ByteSize(1024**2), ge=1, le=256 * 1024**2, description="A longer status value is refused."
    )

    @pydantic.field_validator("redis")
    @classmethod
    def _redis(cls, value: SecretStr) -> SecretStr:
        redis_address(value.get_secret_value())
        return value

    @pydantic.field_validator("postgres")
    @classmethod
    def _postgres(cls, value: SecretStr) -> SecretStr:
        postgres_conninfo(value.get_secret_value(), None if "sslmode=" in value.get_secret_value() else "ca")
        return value

    @pydantic.model_validator(mode="after")
    def _tls(self) -> Options:
        if self.redis_ca is not None and not self.redis_address.tls:
            raise ValueError("redis_ca is for TLS: write the address of Redis with rediss://")
        return self

    @property
    def redis_address(self) -> RedisAddress:
        """The address of Redis, taken apart."""
        return redis_address(self.redis.get_secret_value())

    @property
    def redis_tls(self) -> ssl.SSLContext | None:
        """How Redis' certificate is checked; ``None`` without TLS. Raises ``OSError`` where the CA cannot be read."""
        if not self.redis_address.tls:
            return None
        return ssl.create_default_context(cafile=None if self.redis_ca is None else str(self.redis_ca))

    @property
    def conninfo(self) -> str:
        """How to reach PostgreSQL."""
        ca = None if self.postgres_ca is None else str(self.postgres_ca)
        return postgres_conninfo(self.postgres.get_secret_value(), ca)

    @property
    def postgres_where(self) -> str:
        """The address of PostgreSQL for people, without secrets."""
        given = parsed_conninfo(self.conninfo)
        return f"{given.get('host', 'localhost')}:{given.get('port', 5432)}/{given.get('dbname', '')}"
