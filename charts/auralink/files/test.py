"""`helm test`: the operator is ready, and the API server takes a right bridge and refuses a wrong one (dry runs).

Runs alone in the operator's image; arguments: the operator's /readyz, a namespace.
"""

import json
import ssl
import sys
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")
BRIDGES = "https://kubernetes.default.svc/apis/auralink.io/v1alpha1/namespaces/{}/auralinkbridges?dryRun=All"
RECEIVED = {"video": {"listenPort": 5004, "payloads": [{"type": 96, "codec": "H264"}]}}
SENT = {"video": {"remote": "receiver:5004", "payloads": [{"type": 96, "codec": "H264"}]}}


def answer(request: urllib.request.Request, context: ssl.SSLContext | None = None) -> tuple[int, str]:
    try:
        with urllib.request.urlopen(request, timeout=10, context=context) as found:  # noqa: S310 - http and https only
            return int(found.status), str(found.read().decode())
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()
    except OSError as error:  # not reached at all
        return 0, str(error)


def dry_run(namespace: str, *legs: dict[str, Any]) -> tuple[int, str]:
    """Of a bridge with one room."""
    body = {
        "apiVersion": "auralink.io/v1alpha1",
        "kind": "AuraLinkBridge",
        "metadata": {"name": "installation-test"},
        "spec": {"rooms": [{"name": "demo", "legs": legs}]},
    }
    token = (ACCOUNT / "token").read_text()
    headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}
    request = urllib.request.Request(BRIDGES.format(namespace), json.dumps(body).encode(), headers)  # noqa: S310
    return answer(request, ssl.create_default_context(cafile=str(ACCOUNT / "ca.crt")))


def main(ready_url: str, namespace: str) -> int:
    one, two = {"name": "one", "rtp": RECEIVED}, {"name": "two", "rtp": SENT}
    looks = (
        ("the operator is ready", 200, answer(urllib.request.Request(ready_url))),  # noqa: S310 - the chart's own
        ("a bridge is accepted", 201, dry_run(namespace, one, two)),
        ("a bridge whose room has one leg is refused", 422, dry_run(namespace, one)),
    )
    for what, wanted, (status, said) in looks:
        good = status == wanted
        print(f"ok: {what}" if good else f"FAILED: {what}: {status}, not {wanted}: {said.strip()[:500]}")
    return int(any(status != wanted for _, wanted, (status, _) in looks))


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
