"""What the embedded cluster writes down is decided without touching the machine."""

import io
import json
import tarfile
from pathlib import Path

from hack.cluster import kind
from hack.cluster.archive import scratch_image
from hack.cluster.config import Host, Tools, files, fingerprint, services

HOST = Host("overlayfs", "/etc/resolv.conf")


def tools(cache: str, version: str = "v1.34.4-aa") -> Tools:
    root = Path(cache) / "auralink/bin"
    return Tools(root / f"kubernetes-{version}", root / f"kubectl-{version}", root / "coredns-v1.15.0-bb")


def test_two_clones_with_different_caches_agree_on_the_cluster() -> None:
    assert fingerprint(tools("/home/somebody/.cache"), HOST) == fingerprint(tools("/elsewhere"), HOST)


def test_another_kubernetes_or_another_host_makes_another_cluster() -> None:
    ours = fingerprint(tools("/c"), HOST)
    assert fingerprint(tools("/c", "v1.34.5-cc"), HOST) != ours
    assert fingerprint(tools("/c"), Host("native", "/etc/resolv.conf")) != ours


def test_every_file_and_process_stays_inside_the_clusters_folders() -> None:
    own = ("/run/auralink-cluster/", "/var/lib/auralink-cluster/")
    assert all(str(path).startswith(own) for path in files(HOST))
    told = [argument for service in services(tools("/c")) for argument in service.argv[1:] if "=/" in argument]
    assert told
    assert all(argument.split("=", 1)[1].startswith(own) for argument in told)


def test_pods_are_kept_in_a_cgroup_tree_that_is_the_clusters_own() -> None:
    (kubelet,) = [json.loads(text) for path, text in files(HOST).items() if path.name == "kubelet.json"]
    assert kubelet["cgroupRoot"] not in {"", "/"}


def test_image_of_one_binary_is_a_docker_archive_and_always_the_same_bytes() -> None:
    image = scratch_image("localhost/pause:1", b"\x7fELF", "/pause", ["/pause"], "amd64")
    assert image == scratch_image("localhost/pause:1", b"\x7fELF", "/pause", ["/pause"], "amd64")
    with tarfile.open(fileobj=io.BytesIO(image)) as outer:
        contents = {member.name: outer.extractfile(member) for member in outer}
        parts = {name: part.read() for name, part in contents.items() if part is not None}
    (manifest,) = json.loads(parts["manifest.json"])
    assert manifest["RepoTags"] == ["localhost/pause:1"]
    config = json.loads(parts[manifest["Config"]])
    assert config["config"]["Entrypoint"] == ["/pause"]
    with tarfile.open(fileobj=io.BytesIO(parts[manifest["Layers"][0]])) as layer:
        binary = layer.getmember("pause")
        assert binary.mode & 0o111
        assert layer.extractfile(binary).read() == b"\x7fELF"  # type: ignore[union-attr]


def test_kind_mounts_the_audit_policy_that_it_tells_the_api_server_to_use() -> None:
    (node,) = json.loads(kind.configuration(Path("/state")))["nodes"]
    server = json.loads(node["kubeadmConfigPatches"][0])["apiServer"]
    mounted = {mount["containerPath"] for mount in node["extraMounts"]}
    assert server["extraArgs"]["audit-policy-file"] in mounted
    assert str(Path(server["extraArgs"]["audit-log-path"]).parent) in mounted
