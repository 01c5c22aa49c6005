"""Addresses as users write them."""

import ipaddress
from typing import Annotated

from pydantic import AfterValidator, Field


def split_address(address: str) -> tuple[str, int]:
    """ "host:port", "[v6]:port". Raises ValueError."""
    host, colon, port = address.rpartition(":")
    host = host.removeprefix("[").removesuffix("]")
    if not colon or not host or not port.isdecimal() or not 0 < int(port) < 65536:
        raise ValueError(f'write it as "host:port", not "{address}"')
    if ":" in host:
        ipaddress.IPv6Address(host)
    return host, int(port)


def _address(value: str) -> str:
    split_address(value)
    return value


Address = Annotated[str, Field(max_length=260), AfterValidator(_address)]
HttpUrl = Annotated[str, Field(max_length=512, pattern=r"^https?://[^/\s]+")]
WebSocketUrl = Annotated[str, Field(max_length=512, pattern=r"^wss?://[^/\s]+")]
ServerUrl = Annotated[str, Field(max_length=512, pattern=r"^(https?|wss?)://[^/\s]+")]
