"""The ConfigMap that the operator keeps for a bridge.

    config.json     the bridge and its policies, with a generation that pods acknowledge
    owners.json     which pod serves which rtp room; changes whenever a pod comes or goes
    addresses.json  where from outside a room's medium is reached

A newer operator may write fields that this version does not know: they are left out, for the pods of a bridge are
replaced one by one and must go on serving meanwhile. The API server has checked their spelling.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass as plain_dataclass
from dataclasses import field
from typing import Annotated, Any, Literal

from pydantic import Field
from pydantic.dataclasses import dataclass

from auralink_dataplane.policy import CAMEL, Policy
from auralink_dataplane.settings.bridge import BridgeSpec
from auralink_dataplane.settings.validation import validated


@dataclass(frozen=True, slots=True, config=CAMEL)
class BridgeConfig:
    """`config.json`."""

    version: Literal[1]
    generation: Annotated[int, Field(ge=1)]
    bridge: BridgeSpec
    policies: Annotated[tuple[Policy, ...], Field(max_length=64)] = ()


@dataclass(frozen=True, slots=True, config=CAMEL)
class PublicAddress:
    """An address, or a name where that is all a load balancer gives."""

    port: Annotated[int, Field(ge=1, le=65535)]
    ip: str = ""
    hostname: str = ""

    def __post_init__(self) -> None:
        if not self.host:
            raise ValueError("set ip or hostname")

    @property
    def host(self) -> str:
        return self.ip or self.hostname


@plain_dataclass(frozen=True, slots=True)
class Documents:
    """What could be read of the ConfigMap. `config` is None where `errors` say why: rooms move all the same."""

    config: BridgeConfig | None
    owners: Mapping[str, str] | None
    addresses: Mapping[str, PublicAddress] = field(default_factory=dict)
    errors: tuple[str, ...] = ()


def parse_documents(data: Mapping[str, str]) -> Documents:
    errors: list[str] = []
    config = validated(BridgeConfig, _json(data, "config.json", errors), "config.json", errors, tolerant=True)
    owners = validated(dict[str, str], _json(data, "owners.json", errors, default={}), "owners.json", errors)
    addresses = _addresses(_json(data, "addresses.json", errors, default={}))
    return Documents(config, owners, addresses, tuple(errors))


def _addresses(found: Any) -> dict[str, PublicAddress]:
    """What is no address in our form is left out: media does not depend on it."""
    items = found.items() if isinstance(found, dict) else ()
    parsed = ((str(name), validated(PublicAddress, value, "", [], tolerant=True)) for name, value in items)
    return {name: address for name, address in parsed if address is not None}


def _json(data: Mapping[str, str], name: str, errors: list[str], default: Any = None) -> Any:
    if name not in data:
        if default is None:
            errors.append(f"{name}: is missing from the ConfigMap; the operator writes it")
        return default
    try:
        return json.loads(data[name])
    except ValueError as error:
        errors.append(f"{name}: is not JSON: {error}")
        return None
