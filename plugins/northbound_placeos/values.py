"""Reading the hashes ``status/<module>``, many in one round trip."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

import redis.asyncio
from redis.exceptions import RedisError

from northbound import NorthboundError
from northbound_placeos.options import Options

#: Modules read in one round trip.
BATCH: Final = 200
_TIMEOUT: Final = 30.0


class Values:
    """Reads status values. Made for one stretch of being connected; close it afterwards."""

    def __init__(self, options: Options) -> None:
        address = options.redis_address
        how: dict[str, Any] = {
            "db": address.database,
            "username": address.username,
            "password": address.password,
            "socket_timeout": _TIMEOUT,
            "protocol": 2,
            "driver_info": None,  # it would need the right to CLIENT
        }
        if address.path is not None:
            how["unix_socket_path"] = address.path
        else:
            how |= {"host": address.host, "port": address.port, "socket_connect_timeout": _TIMEOUT}
            if address.tls:
                how |= {"ssl": True, "ssl_cert_reqs": "required", "ssl_check_hostname": True}
                how["ssl_ca_certs"] = None if options.redis_ca is None else str(options.redis_ca)
        self._where = address.where
        self._client = redis.asyncio.Redis(**how)

    async def read(self, modules: Sequence[str]) -> list[Mapping[bytes, bytes] | str]:
        """Return each module's hash, or why it cannot be read; raises :class:`NorthboundError` where Redis is away."""
        try:
            async with self._client.pipeline(transaction=False) as pipeline:
                for module in modules:
                    pipeline.hgetall(f"status/{module}")
                replies = await pipeline.execute(raise_on_error=False)
        except (RedisError, OSError) as error:
            raise NorthboundError(f"Redis at {self._where}: {error}") from None
        found: list[Mapping[bytes, bytes] | str] = []
        for reply in replies:
            if isinstance(reply, Exception):
                words = str(reply)
                if not words.startswith("WRONGTYPE"):  # of rights, of loading: not this module's fault
                    raise NorthboundError(
                        f"Redis at {self._where} refuses: {words}: docs/placeos.md has the rights it needs"
                    )
                found.append(words)
            else:
                found.append(reply)
        return found

    async def close(self) -> None:
        """Let go of the connection."""
        await self._client.aclose()
