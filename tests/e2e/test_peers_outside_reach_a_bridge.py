"""Peers that know nothing but the addresses in the status talk to each other through a Node's ports."""

import json

import pytest

from hack.lab import tool_pods
from hack.lab.bridge import AICore, Bridge, example
from hack.lab.kube import ROOT, Kube, Obj, condition, images, pods_path, wait_for
from hack.lab.rooms import crowd_clip

_EXAMPLE = ROOT / "examples" / "gitops" / "bridges" / "bridge.yaml"
_PICTURES = 90  # six seconds, a key in each

# Two peers in one pod, each with one socket: what one sends to its leg's address the other gets from its own leg's.
_TALK = """
import json, socket, sys, time
sys.path.insert(0, "/opt/auralink")
from crowd import Assembly, _HEADER, packets_of
addresses = json.loads(sys.argv[1])
clip = json.load(open("/data/clip.json"))
peers = []
for number, (host, port) in enumerate(addresses):
    out = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    out.setblocking(False)
    out.connect((host, port))
    peers.append({"out": out, "ssrc": 7 + number, "sequence": 0, "assembly": Assembly(), "whole": 0, "broken": 0})
def listen(peer):
    while True:
        try:
            datagram = peer["out"].recv(2048)
        except OSError:
            return
        found = peer["assembly"].take(datagram)
        if found:
            peer["whole" if found[4] else "broken"] += 1
for n in range(int(sys.argv[2])):
    for peer in peers:
        packets = packets_of(bytes.fromhex(clip["pictures"][n % len(clip["pictures"])]))
        for index, payload in enumerate(packets):
            marker = 0x80 * (index == len(packets) - 1)
            head = _HEADER.pack(0x80, marker | 96, peer["sequence"], n * 6000, peer["ssrc"])
            try:
                peer["out"].send(head + payload)
            except OSError:
                pass
            peer["sequence"] += 1
    time.sleep(1 / 15)
    for peer in peers:
        listen(peer)
print(json.dumps([{"whole": peer["whole"], "broken": peer["broken"]} for peer in peers]))
"""


@pytest.mark.parametrize("mode", ["NodePort", "HostPort"])
def test_two_peers_meet_at_the_addresses_that_the_status_names(
    cluster: Kube, release: AICore, namespace: str, mode: str
) -> None:
    if mode == "HostPort":  # Pod Security's baseline forbids it
        cluster.kubectl("label", "namespace", namespace, "pod-security.kubernetes.io/enforce=privileged", "--overwrite")
    bridge = Bridge(cluster, namespace, "desks", policy="")
    exposure = {"mode": mode, "nodeAddressType": "InternalIP"}
    cluster.apply(example(_EXAMPLE, exposure=exposure, compression={"mode": "Disabled"}), namespace)
    bridge.wait_ready()
    found = condition(bridge.resource(), "ExposureReady")
    assert found is not None
    assert found["reason"] == "AddressKnown"

    endpoints = {one["name"]: one for one in bridge.status()["endpoints"]}
    near, far = endpoints["desk-1/near/video"], endpoints["desk-1/far/video"]
    node = cluster.items("/api/v1/nodes")[0]
    assert near["ip"] == next(a["address"] for a in node["status"]["addresses"] if a["type"] == "InternalIP")
    assert (near["port"], far["port"]) == ((5004, 5008) if mode == "HostPort" else (near["port"], far["port"]))

    heard = _talk(cluster, namespace, [near, far])

    print(mode, heard)
    for peer in heard:
        # The first second is each leg learning its peer, and waiting for the next key.
        assert peer["whole"] >= _PICTURES * 0.6, heard
        assert peer["broken"] == 0, heard


def _talk(cluster: Kube, namespace: str, endpoints: list[Obj]) -> list[dict[str, int]]:
    image = images()["media-tools"]
    container = tool_pods.container("peers", image, "exec sleep 300")
    cluster.apply([tool_pods.pod("peers", [container], {"app": "peers"})], namespace)

    def running() -> bool:
        found = cluster.get(f"{pods_path(namespace)}/peers") or {}
        return (found.get("status") or {}).get("phase") == "Running"

    wait_for("the peers' pod", running, 60)
    cluster.write_file(namespace, "peers", "peers", f"{tool_pods.FOLDER}/clip.json", crowd_clip())
    addresses = json.dumps([(one["ip"], one["port"]) for one in endpoints])
    inside = ["exec", "-n", namespace, "peers", "-c", "peers", "--", "python3", "-c", _TALK]
    return list(json.loads(cluster.kubectl(*inside, addresses, str(_PICTURES))))
