"""Certificates and kubeconfigs of the embedded cluster, made by openssl. Keys never leave the state folder.

Every component gets an identity of its own (the built-in RBAC roles go by these names), valid for a year: longer than
any cluster here lives, and an expired one is replaced like any broken one.
"""

import base64
import json
import subprocess
from dataclasses import dataclass
from pathlib import Path

DAYS = 365


@dataclass(frozen=True, slots=True)
class Leaf:
    """`subject` in openssl's slash form; `names` as a subjectAltName value, empty for a pure client."""

    name: str
    subject: str
    names: str = ""


def _openssl(*arguments: str) -> None:
    done = subprocess.run(["openssl", *arguments], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise RuntimeError(f"openssl {arguments[0]} failed: {done.stderr.strip()}")


def make_authority(folder: Path, name: str) -> None:
    _openssl(
        *("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", str(DAYS)),
        *("-subj", f"/CN={name}", "-keyout", str(folder / "ca.key"), "-out", str(folder / "ca.crt")),
        *("-addext", "keyUsage=critical,keyCertSign,cRLSign,digitalSignature"),
    )


def make_leaf(folder: Path, leaf: Leaf) -> None:
    extensions = ["basicConstraints=critical,CA:FALSE", "keyUsage=critical,digitalSignature"]
    extensions.append("extendedKeyUsage=serverAuth,clientAuth" if leaf.names else "extendedKeyUsage=clientAuth")
    if leaf.names:
        extensions.append(f"subjectAltName={leaf.names}")
    added = [part for extension in extensions for part in ("-addext", extension)]
    _openssl(
        *("req", "-x509", "-CA", str(folder / "ca.crt"), "-CAkey", str(folder / "ca.key"), "-days", str(DAYS)),
        *("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-subj", leaf.subject),
        *("-keyout", str(folder / f"{leaf.name}.key"), "-out", str(folder / f"{leaf.name}.crt"), *added),
    )


def make_signing_key(folder: Path) -> None:
    """The pair that signs and checks service-account tokens."""
    _openssl("genpkey", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-out", str(folder / "sa.key"))
    _openssl("pkey", "-in", str(folder / "sa.key"), "-pubout", "-out", str(folder / "sa.pub"))


def kubeconfig(folder: Path, leaf: str, server: str, cluster: str) -> str:
    """A kubeconfig with everything embedded, so that the one file can be copied. JSON is YAML."""

    def embedded(name: str) -> str:
        return base64.b64encode((folder / name).read_bytes()).decode()

    return json.dumps(
        {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [
                {
                    "name": cluster,
                    "cluster": {"server": server, "certificate-authority-data": embedded("ca.crt")},
                }
            ],
            "users": [
                {
                    "name": leaf,
                    "user": {
                        "client-certificate-data": embedded(f"{leaf}.crt"),
                        "client-key-data": embedded(f"{leaf}.key"),
                    },
                }
            ],
            "contexts": [{"name": cluster, "context": {"cluster": cluster, "user": leaf}}],
            "current-context": cluster,
        },
        indent=1,
    )
