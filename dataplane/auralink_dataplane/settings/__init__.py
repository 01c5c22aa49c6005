"""What a pod is told: who it is, and the bridge it serves. One model, two sources.

In Kubernetes the environment says who the pod is and names the ConfigMap that the operator keeps (`documents`).
Elsewhere `auralink.conf` says both (`file`), with the bridge in the custom resource's own schema (`bridge`) under
`auralink.bridge`. Every error is reported at once, with its path and what to do (`validation`). Only `__main__` reads
files and the environment; `app` parses the ConfigMap again whenever it changes.
"""

from auralink_dataplane.settings.addresses import Address, split_address
from auralink_dataplane.settings.bridge import (
    AiCoreSpec,
    ApiSpec,
    BreakerSpec,
    BridgeSpec,
    DrainStrategy,
    EndpointSpec,
    ExtensionSpec,
    LegSpec,
    MediumSpec,
    Payload,
    RoomSpec,
    RtpSpec,
    SecretRef,
    SrtpSpec,
    secret_refs,
)
from auralink_dataplane.settings.database import Database, database_from_environment
from auralink_dataplane.settings.documents import BridgeConfig, Documents, PublicAddress, parse_documents
from auralink_dataplane.settings.file import ApiKey, from_file
from auralink_dataplane.settings.pod import Pod, Settings, from_cluster
from auralink_dataplane.settings.validation import ConfigError

__all__ = [
    "Address",
    "AiCoreSpec",
    "ApiKey",
    "ApiSpec",
    "BreakerSpec",
    "BridgeConfig",
    "BridgeSpec",
    "ConfigError",
    "Database",
    "Documents",
    "DrainStrategy",
    "EndpointSpec",
    "ExtensionSpec",
    "LegSpec",
    "MediumSpec",
    "Payload",
    "Pod",
    "PublicAddress",
    "RoomSpec",
    "RtpSpec",
    "SecretRef",
    "Settings",
    "SrtpSpec",
    "database_from_environment",
    "from_cluster",
    "from_file",
    "parse_documents",
    "secret_refs",
    "split_address",
]
