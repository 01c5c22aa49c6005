"""What the configuration asks of this pod: the rooms it serves, the rules of each, the Secrets they need.

Takes documents in whatever order they come and keeps the last good ones. Does no I/O but to read Secrets through the
function that it is given.
"""

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Final

from auralink_dataplane.policy import Rules, rules_for
from auralink_dataplane.rooms.ownership import Custody, follow, look
from auralink_dataplane.settings import (
    BridgeConfig,
    BridgeSpec,
    Documents,
    PublicAddress,
    RoomSpec,
    SecretRef,
    secret_refs,
)

log = logging.getLogger(__name__)

ReadSecret = Callable[[str, str], bytes | None]
NAMED_AT_ONCE: Final = 3
"""Missing Secrets in one message; the rest are counted."""


@dataclass(slots=True)
class Duty:
    """`pod` is our own name in owners.json."""

    pod: str
    read_secret: ReadSecret
    propagation_s: float
    config: BridgeConfig | None = None
    owners: Mapping[str, str] | None = None
    """None outside Kubernetes, where one pod serves all."""
    addresses: Mapping[str, PublicAddress] = field(default_factory=dict)
    rejected: str | None = None
    """Why the newest configuration is not in force."""
    rules: Mapping[str, Rules] = field(default_factory=dict)
    custody: Custody = field(default_factory=Custody)
    missing: tuple[str, ...] = ()
    """Secrets that the configuration names and that are not there."""
    _servable: Mapping[str, RoomSpec] = field(default_factory=dict)
    _refs: Mapping[SecretRef, str] = field(default_factory=dict)

    @property
    def bridge(self) -> BridgeSpec | None:
        return self.config.bridge if self.config else None

    @property
    def generation(self) -> int:
        return self.config.generation if self.config else 0

    @property
    def rooms(self) -> tuple[RoomSpec, ...]:
        """Those served now, in the configuration's order."""
        return tuple(room for name, room in self._servable.items() if name in self.custody.rooms)

    @property
    def elsewhere(self) -> frozenset[str]:
        """Rooms that exist and that are not ours."""
        return frozenset(self._servable) - self.custody.rooms

    @property
    def compresses(self) -> bool:
        return any(self.rules[room.name].compression.enabled for room in self.rooms)

    # --- what comes in ----------------------------------------------------------------------------------------

    def take(self, documents: Documents, now: float, *, refusing: bool) -> bool:
        """Whether the configuration has changed. A bad one leaves the old in force; rooms move all the same.
        `refusing`: no room is taken that is not here already."""
        rejected = "; ".join(documents.errors) or None
        if rejected and rejected != self.rejected:
            log.warning("configuration rejected, the old one stays", extra={"errors": documents.errors})
        self.rejected = rejected
        changed = documents.config is not None and documents.config != self.config
        if documents.config is not None and changed:
            self._configure(documents.config)
        self.owners = documents.owners if documents.owners is not None else self.owners
        self.addresses = documents.addresses
        self._follow(now, refusing=refusing)
        return changed

    def serve_all(self, config: BridgeConfig, now: float) -> None:
        """Outside Kubernetes."""
        self._configure(config)
        self._follow(now, refusing=False)

    def _configure(self, config: BridgeConfig) -> None:
        log.info("configuration applied", extra={"generation": config.generation, "before": self.generation})
        bridge = config.bridge
        self.config = config
        self.rules = {
            room.name: rules_for(room.name, room.labels, bridge.compression, config.policies) for room in bridge.rooms
        }
        self._servable = {room.name: room for room in bridge.rooms if room.unserved() is None}
        self._refs = {ref: path for path, ref in reversed([*secret_refs(bridge)])}
        if bridge.without_user:
            log.info("configured, but without a user in this version", extra={"sections": bridge.without_user})
        self.look_for_secrets()

    def _follow(self, now: float, *, refusing: bool) -> None:
        before = self.custody
        named = {room for room in self._servable if self._is_ours(room)}
        self.custody = follow(before, named & before.rooms if refusing else named, self._servable, now)
        if taken := sorted(self.custody.owned - before.rooms):
            log.info("rooms taken", extra={"rooms": taken})
        if leaving := sorted(set(self.custody.leaving) - set(before.leaving)):
            log.info("rooms go to other pods", extra={"rooms": leaving})

    def _is_ours(self, room: str) -> bool:
        return self.owners is None or self.owners.get(room) == self.pod

    # --- looking ----------------------------------------------------------------------------------------------

    def look(self, packets: Mapping[str, int], now: float) -> frozenset[str]:
        """Rooms that have left now. `packets`: received so far, by room."""
        before = self.custody
        self.custody = look(before, packets, now, propagation_s=self.propagation_s)
        left = before.rooms - self.custody.rooms
        if left:
            log.info("rooms have gone to other pods", extra={"rooms": sorted(left)})
        return left

    def look_for_secrets(self) -> None:
        """They may come, go and change at any time."""
        self.missing = tuple(
            f"{ref.name}/{ref.key} ({path})"
            for ref, path in sorted(self._refs.items(), key=lambda item: item[1])
            if not (self.read_secret(ref.name, ref.key) or b"").strip()
        )

    def api_token(self) -> bytes | None:
        ref = self.config.bridge.api.token_ref if self.config else None
        token = self.read_secret(ref.name, ref.key) if ref else None
        return (token.strip() or None) if token else None

    def problems(self) -> dict[str, str]:
        """Name -> what of the configuration does not work, and what to do."""
        found: dict[str, str] = {}
        if self.rejected:
            found["ConfigInvalid"] = f"configuration rejected, the last good one stays: {self.rejected}"
        if self.missing:
            more = len(self.missing) - NAMED_AT_ONCE
            names = ", ".join(self.missing[:NAMED_AT_ONCE]) + (f" and {more} more" if more > 0 else "")
            found["CredentialsMissing"] = f"missing or empty Secrets: {names}; create them, what needs them stays off"
        for room in self.bridge.rooms if self.bridge else ():
            why = room.unserved()
            if why:
                said = f"room {room.name}, {why}; remove the room, or keep it waiting"
                found.setdefault(self._unavailable(room), said)
        return found

    def _unavailable(self, room: RoomSpec) -> str:
        types = {endpoint.name: endpoint.type for endpoint in self.bridge.endpoints} if self.bridge else {}
        return f"{types[room.endpoints[0]]}Unavailable"
