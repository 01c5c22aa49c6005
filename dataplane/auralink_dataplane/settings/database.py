"""Where records go, for a pod outside Kubernetes and for the migration. A bridge in Kubernetes has it in its spec."""

from collections.abc import Mapping
from dataclasses import dataclass as plain_dataclass
from typing import Annotated, Final
from urllib.parse import parse_qs, urlsplit

from pydantic import ConfigDict, Field, SecretStr
from pydantic.dataclasses import dataclass

from auralink_dataplane.settings.addresses import Address, split_address
from auralink_dataplane.settings.bridge import ShortText
from auralink_dataplane.settings.validation import ConfigError, validated

_ENCRYPTED: Final = ("require", "verify-ca", "verify-full")
DEFAULT_PORT: Final = 5432


@plain_dataclass(frozen=True, slots=True)
class Database:
    """`ca_file`: in PEM; None: the system's. Without `tls` the connection is plaintext."""

    address: str
    name: str
    user: str
    password: SecretStr | None = None
    tls: bool = False
    ca_file: str | None = None

    @property
    def host_port(self) -> tuple[str, int]:
        return split_address(self.address)

    @classmethod
    def from_url(cls, url: str, user: str, password: SecretStr | None) -> "Database":
        """`url`: [jdbc:]postgresql://host[:port]/name[?sslmode=..&sslrootcert=..]; every sslmode that encrypts checks
        the certificate too. Raises ValueError."""
        parts = urlsplit(url.removeprefix("jdbc:"))
        if parts.username or parts.password:
            raise ValueError("write the user and the password into username and password, not into the url")
        host = f"[{parts.hostname}]" if ":" in (parts.hostname or "") else parts.hostname
        address = f"{host}:{parts.port or DEFAULT_PORT}"
        split_address(address)
        query = parse_qs(parts.query)
        return cls(
            address=address,
            name=parts.path.strip("/"),
            user=user,
            password=password,
            tls=query.get("sslmode", [""])[-1] in _ENCRYPTED,
            ca_file=query.get("sslrootcert", [None])[-1],
        )


@dataclass(frozen=True, slots=True, config=ConfigDict(extra="forbid"))
class _Variables:
    """By their lower-case names."""

    database_address: Address
    db_password: SecretStr | None = None
    database_name: ShortText = "auralink"
    database_user: ShortText = "auralink"
    database_tls: bool = False
    database_ca_file: Annotated[str, Field(max_length=4096)] | None = None


def database_from_environment(env: Mapping[str, str]) -> Database | None:
    """None where DATABASE_ADDRESS is not set. Raises ConfigError."""
    if not env.get("DATABASE_ADDRESS"):
        return None
    given = {name: env[name.upper()] for name in _Variables.__dataclass_fields__ if env.get(name.upper())}
    errors: list[str] = []
    found = validated(_Variables, given, "", errors, upper=True)
    if found is None:
        raise ConfigError(errors)
    return Database(
        address=found.database_address,
        name=found.database_name,
        user=found.database_user,
        password=found.db_password,
        tls=found.database_tls,
        ca_file=found.database_ca_file,
    )
