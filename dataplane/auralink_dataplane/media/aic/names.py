"""What the configured names stand for, and who prefers which of the addresses behind them."""

import asyncio
import hashlib
import socket
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass, field

from auralink_dataplane.settings import split_address

Resolve = Callable[[str, int], Awaitable[Sequence[tuple[str, int]]]]
"""Every address behind a name. Raises OSError; socket.gaierror with EAI_AGAIN when nobody could be asked."""


async def resolve_all(host: str, port: int) -> Sequence[tuple[str, int]]:
    try:
        host.encode("idna")
    except UnicodeError as error:  # "a..b", or a label beyond 63 characters; getaddrinfo would raise it unchanged
        raise socket.gaierror(socket.EAI_NONAME, f"no host name: {error}") from error
    found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return sorted({(str(entry[4][0]), port) for entry in found})


@dataclass(slots=True)
class Found:
    """Of one look at all names."""

    hosts: dict[str, str] = field(default_factory=dict)
    """Address -> the host that stands for it."""
    unresolved: dict[str, str] = field(default_factory=dict)
    """Configured name -> what the resolver said."""
    complete: bool = True
    """False: nobody could be asked for some."""


async def look_up(names: Iterable[str], resolve: Resolve) -> Found:
    """`names`: "host:port"."""
    found = Found()
    for name in names:
        host, port = split_address(name)
        try:
            addresses = await resolve(host, port)
        except OSError as error:
            if isinstance(error, socket.gaierror) and error.errno == socket.EAI_AGAIN:
                found.complete = False
            found.unresolved[name] = error.strerror or str(error)
            continue
        for ip, number in addresses:
            found.hosts[f"[{ip}]:{number}" if ":" in ip else f"{ip}:{number}"] = host
    return found


def weight(address: str, name: str) -> bytes:
    """Rendezvous: each name prefers the address that hashes highest with it."""
    return hashlib.blake2b(f"{address}\n{name}".encode(), digest_size=8).digest()
