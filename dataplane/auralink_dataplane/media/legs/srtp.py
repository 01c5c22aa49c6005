"""Keys of an encrypted plain-RTP leg, as Secrets hold them: master key and salt in base64, as behind SDP's `inline:`
(RFC 4568 section 6.1). `plain_rtp` reads them when it opens a leg, and again for as long as it is open.
"""

import base64
import binascii
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from auralink_dataplane.settings import SecretRef, SrtpSpec

if TYPE_CHECKING:
    from auralink_dataplane.media.packets import SrtpConfig

ReadSecret = Callable[[str, str], bytes | None]
MASTER_BYTES: Final = {"AES_CM_128_HMAC_SHA1_80": 30, "AEAD_AES_128_GCM": 28}
"""Key of 16 bytes and salt (RFC 3711, RFC 7714)."""


class KeyProblemError(Exception):
    """A key that cannot be used; says which and what to do, nothing of its value."""


@dataclass(frozen=True, slots=True)
class SrtpKeys:
    spec: SrtpSpec
    rx: bytes = field(repr=False)
    """What the peer sends with."""
    tx: bytes = field(repr=False)

    @property
    def config(self) -> "SrtpConfig":
        return {"suite": self.spec.suite, "rx": self.rx, "tx": self.tx}

    def crypto(self, key: bytes) -> str:
        """The attribute of SDP (RFC 4568 section 4)."""
        return f"a=crypto:1 {self.spec.suite} inline:{base64.b64encode(key).decode('ascii')}"


def read_keys(spec: SrtpSpec, read_secret: ReadSecret, *, both_ways: bool) -> SrtpKeys:
    """`both_ways`: of a leg that sends and receives media. Raises KeyProblemError."""
    rx = _master(spec, spec.key_ref, read_secret)
    tx = _master(spec, spec.send_key_ref, read_secret) if spec.send_key_ref else rx
    if both_ways and rx == tx:
        raise KeyProblemError(
            "one key serves both ways, so that recorded packets of the bridge would come back as the peer's:"
            f" name a Secret with another key than that of {spec.key_ref.name}/{spec.key_ref.key} in sendKeyRef"
        )
    return SrtpKeys(spec, rx, tx)


def _master(spec: SrtpSpec, ref: SecretRef, read_secret: ReadSecret) -> bytes:
    name, size = f"Secret {ref.name}/{ref.key}", MASTER_BYTES[spec.suite]
    text = (read_secret(ref.name, ref.key) or b"").strip()
    if not text:
        raise KeyProblemError(f"{name} is missing or empty: put the SRTP master key and salt in, as base64")
    try:
        master = base64.b64decode(text, validate=True)
    except binascii.Error:
        master = b""
    if len(master) != size:
        raise KeyProblemError(f"{name} is not the base64 of {size} bytes, as {spec.suite} wants them: put it right")
    return master
