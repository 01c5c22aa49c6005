"""Every configuration file and command line of the embedded cluster, as data. Pure: `embedded` writes and starts them.

Odd settings and why:
- containerd `restrict_oom_score_adj`: without CAP_SYS_RESOURCE runc cannot lower a score and every container fails.
- `netns_mounts_under_state_dir`, host-local `dataDir`: whatever a pod leaves behind stays inside our own folders.
- kubelet and kube-proxy `oomScoreAdj: 0`: the default needs CAP_SYS_RESOURCE as well.
- `failCgroupV1: false`: hosts with cgroup v1 are still common; Kubernetes 1.34 is the last to take them by default.
- kube-proxy's conntrack limits are 0 ("leave as is"): they belong to the machine, not to us.
"""

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path

from hack.audit.policy import MAX_BACKUPS, MAX_MEGABYTES, policy
from hack.cluster import dns
from hack.cluster import layout as at
from hack.cluster.pki import Leaf

LEAVES = (
    Leaf("etcd", "/CN=etcd", "IP:127.0.0.1"),
    Leaf("apiserver-etcd", "/CN=kube-apiserver-etcd-client"),
    Leaf(
        "apiserver",
        "/CN=kube-apiserver",
        f"IP:{at.NODE_IP},IP:{at.API_SERVICE_IP},IP:127.0.0.1,DNS:localhost,DNS:kubernetes,DNS:kubernetes.default,"
        f"DNS:kubernetes.default.svc,DNS:kubernetes.default.svc.{at.DOMAIN}",
    ),
    Leaf("apiserver-kubelet", "/O=system:masters/CN=kube-apiserver-kubelet-client"),
    Leaf("admin", "/O=system:masters/CN=admin"),
    Leaf("controller-manager", "/CN=system:kube-controller-manager"),
    Leaf("scheduler", "/CN=system:kube-scheduler"),
    Leaf("proxy", "/CN=system:kube-proxy"),
    Leaf(
        "kubelet", f"/O=system:nodes/CN=system:node:{at.NODE_NAME}", f"IP:{at.NODE_IP},IP:127.0.0.1,DNS:{at.NODE_NAME}"
    ),
)
# Components that reach the API server by a kubeconfig of their own, <name>.conf in the state folder.
CLIENTS = ("admin", "controller-manager", "scheduler", "proxy", "kubelet")
SERVER = f"https://{at.NODE_IP}:{at.API_PORT}"


@dataclass(frozen=True, slots=True)
class Tools:
    """Folders of the binaries built from source; Debian's are found on the PATH."""

    kubernetes: Path
    kubectl: Path
    coredns: Path


@dataclass(frozen=True, slots=True)
class Service:
    name: str
    argv: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Host:
    """What the configuration has to know about this machine."""

    snapshotter: str  # "overlayfs", or "native" where the disk is itself an overlay
    resolv_conf: str  # one that pods can use: not pointing at a resolver on the host's own loopback


def _containerd(host: Host) -> str:
    cri = 'plugins."io.containerd.grpc.v1.cri"'
    return f"""version = 2
root = "{at.DATA}/containerd"
state = "{at.RUN}/containerd/state"
disabled_plugins = ["io.containerd.snapshotter.v1.aufs", "io.containerd.snapshotter.v1.btrfs",
  "io.containerd.snapshotter.v1.devmapper", "io.containerd.snapshotter.v1.zfs", "io.containerd.internal.v1.opt",
  "io.containerd.tracing.processor.v1.otlp", "io.containerd.internal.v1.tracing"]
[grpc]
  address = "{at.CONTAINERD_SOCKET}"
[ttrpc]
  address = "{at.CONTAINERD_SOCKET}.ttrpc"
[{cri}]
  restrict_oom_score_adj = true
  netns_mounts_under_state_dir = true
  sandbox_image = "{at.PAUSE_IMAGE}"
  [{cri}.containerd]
    snapshotter = "{host.snapshotter}"
    default_runtime_name = "runc"
    [{cri}.containerd.runtimes.runc]
      runtime_type = "io.containerd.runc.v2"
      [{cri}.containerd.runtimes.runc.options]
        Root = "{at.RUN}/runc"
  [{cri}.cni]
    bin_dir = "/usr/lib/cni"
    conf_dir = "{at.CNI}"
"""


def _cni() -> str:
    ipam = {
        "type": "host-local",
        "dataDir": str(at.RUN / "ipam"),
        "ranges": [[{"subnet": at.POD_CIDR}]],
        "routes": [{"dst": "0.0.0.0/0"}],
    }
    bridge = {
        "type": "bridge",
        "bridge": at.BRIDGE,
        "isGateway": True,
        "ipMasq": True,
        "hairpinMode": True,
        "ipam": ipam,
    }
    portmap = {"type": "portmap", "capabilities": {"portMappings": True}}
    return json.dumps({"cniVersion": "0.4.0", "name": at.CNI_NETWORK, "plugins": [bridge, portmap]}, indent=1)


def _kubelet(host: Host) -> str:
    return json.dumps(
        {
            "apiVersion": "kubelet.config.k8s.io/v1beta1",
            "kind": "KubeletConfiguration",
            "address": at.NODE_IP,
            "authentication": {
                "anonymous": {"enabled": False},
                "webhook": {"enabled": True},
                "x509": {"clientCAFile": str(at.PKI / "ca.crt")},
            },
            "authorization": {"mode": "Webhook"},
            "tlsCertFile": str(at.PKI / "kubelet.crt"),
            "tlsPrivateKeyFile": str(at.PKI / "kubelet.key"),
            "port": at.KUBELET_PORT,
            "readOnlyPort": 0,
            "healthzPort": at.KUBELET_HEALTH_PORT,
            "cgroupDriver": "cgroupfs",
            "cgroupRoot": f"/{at.CGROUP}",
            "containerRuntimeEndpoint": f"unix://{at.CONTAINERD_SOCKET}",
            "failSwapOn": False,
            "failCgroupV1": False,
            "oomScoreAdj": 0,
            "clusterDNS": [at.DNS_IP],
            "clusterDomain": at.DOMAIN,
            "resolvConf": host.resolv_conf,
            "podLogsDir": str(at.DATA / "pod-logs"),
            "volumePluginDir": str(at.DATA / "volume-plugins"),
            "containerLogMaxSize": "10Mi",
            "containerLogMaxFiles": 2,
            "podPidsLimit": 4096,
            # The disk is shared with everything else on the machine: only a nearly full one is our concern.
            "evictionHard": {"memory.available": "100Mi", "nodefs.available": "1%", "imagefs.available": "1%"},
            # Images come from archives, not from a registry: one that was collected would not come back.
            "imageGCHighThresholdPercent": 100,
        },
        indent=1,
    )


def audit_policy() -> str:
    """One line per request, so that tests can count what a component asks for and check each status that it writes;
    the control plane's own chatter is left out."""
    chatter = [
        *("system:apiserver", "system:kube-scheduler", "system:kube-controller-manager", "system:kube-proxy"),
        f"system:node:{at.NODE_NAME}",
    ]
    silent = (
        {"level": "None", "users": chatter},
        {"level": "None", "userGroups": ["system:nodes", "system:serviceaccounts:kube-system"]},
        {"level": "None", "nonResourceURLs": ["/healthz*", "/livez*", "/readyz*", "/version", "/openapi/*"]},
    )
    return json.dumps(policy(*silent), indent=1)


def files(host: Host) -> dict[Path, str]:
    return {
        at.RUN / "containerd.toml": _containerd(host),
        at.CNI / "10-auralink.conflist": _cni(),
        at.RUN / "kubelet.json": _kubelet(host),
        at.RUN / "audit-policy.json": audit_policy(),
    }


def _etcd() -> Service:
    client, peer = f"https://127.0.0.1:{at.ETCD_PORT}", f"http://127.0.0.1:{at.ETCD_PEER_PORT}"
    return Service(
        "etcd",
        (
            *("etcd", "--name=auralink", f"--data-dir={at.DATA}/etcd", "--unsafe-no-fsync", "--logger=zap"),
            *(f"--listen-client-urls={client}", f"--advertise-client-urls={client}"),
            *(f"--listen-peer-urls={peer}", f"--initial-advertise-peer-urls={peer}"),
            *(f"--initial-cluster=auralink={peer}", "--log-level=warn"),
            *("--client-cert-auth", f"--trusted-ca-file={at.PKI}/ca.crt"),
            *(f"--cert-file={at.PKI}/etcd.crt", f"--key-file={at.PKI}/etcd.key"),
        ),
    )


def _apiserver(tools: Tools) -> Service:
    pki = at.PKI
    return Service(
        "kube-apiserver",
        (
            f"{tools.kubernetes}/kube-apiserver",
            *(f"--bind-address={at.NODE_IP}", f"--advertise-address={at.NODE_IP}", f"--secure-port={at.API_PORT}"),
            *(f"--etcd-servers=https://127.0.0.1:{at.ETCD_PORT}", f"--etcd-cafile={pki}/ca.crt"),
            *(f"--etcd-certfile={pki}/apiserver-etcd.crt", f"--etcd-keyfile={pki}/apiserver-etcd.key"),
            *(f"--client-ca-file={pki}/ca.crt", f"--service-cluster-ip-range={at.SERVICE_CIDR}"),
            *(f"--tls-cert-file={pki}/apiserver.crt", f"--tls-private-key-file={pki}/apiserver.key"),
            f"--service-account-issuer=https://kubernetes.default.svc.{at.DOMAIN}",
            *(f"--service-account-key-file={pki}/sa.pub", f"--service-account-signing-key-file={pki}/sa.key"),
            *("--authorization-mode=Node,RBAC", "--enable-admission-plugins=NodeRestriction", "--allow-privileged"),
            *("--kubelet-preferred-address-types=InternalIP", f"--kubelet-certificate-authority={pki}/ca.crt"),
            f"--kubelet-client-certificate={pki}/apiserver-kubelet.crt",
            f"--kubelet-client-key={pki}/apiserver-kubelet.key",
            *(f"--audit-policy-file={at.RUN}/audit-policy.json", f"--audit-log-path={at.AUDIT_LOG}"),
            *(f"--audit-log-maxsize={MAX_MEGABYTES}", f"--audit-log-maxbackup={MAX_BACKUPS}", "--profiling=false"),
        ),
    )


def services(tools: Tools) -> tuple[Service, ...]:
    """In starting order: each may rely on those before it."""
    return (
        _etcd(),
        Service("containerd", ("containerd", "--config", f"{at.RUN}/containerd.toml")),
        _apiserver(tools),
        Service(
            "kube-controller-manager",
            (
                f"{tools.kubernetes}/kube-controller-manager",
                *(f"--kubeconfig={at.RUN}/controller-manager.conf", "--bind-address=127.0.0.1", "--profiling=false"),
                *(f"--service-account-private-key-file={at.PKI}/sa.key", f"--root-ca-file={at.PKI}/ca.crt"),
                *("--use-service-account-credentials", "--leader-elect=false", "--allocate-node-cidrs=false"),
                f"--flex-volume-plugin-dir={at.DATA}/volume-plugins",
            ),
        ),
        Service(
            "kube-scheduler",
            (
                f"{tools.kubernetes}/kube-scheduler",
                *(f"--kubeconfig={at.RUN}/scheduler.conf", "--bind-address=127.0.0.1", "--leader-elect=false"),
            ),
        ),
        Service(
            "kubelet",
            (
                f"{tools.kubernetes}/kubelet",
                *(f"--config={at.RUN}/kubelet.json", f"--kubeconfig={at.RUN}/kubelet.conf"),
                *(f"--hostname-override={at.NODE_NAME}", f"--node-ip={at.NODE_IP}"),
                *(f"--root-dir={at.DATA}/kubelet", f"--cert-dir={at.DATA}/kubelet/pki"),
            ),
        ),
        Service(
            "kube-proxy",
            (
                f"{tools.kubernetes}/kube-proxy",
                *(f"--kubeconfig={at.RUN}/proxy.conf", f"--hostname-override={at.NODE_NAME}"),
                *("--proxy-mode=iptables", f"--cluster-cidr={at.POD_CIDR}", f"--bind-address={at.NODE_IP}"),
                *("--iptables-localhost-nodeports=false", "--iptables-min-sync-period=200ms", "--oom-score-adj=0"),
                *("--healthz-bind-address=127.0.0.1:10256", "--metrics-bind-address=127.0.0.1:10249"),
                *("--conntrack-max-per-core=0", "--conntrack-tcp-timeout-established=0s"),
                "--conntrack-tcp-timeout-close-wait=0s",
            ),
        ),
    )


def fingerprint(tools: Tools, host: Host) -> str:
    """Changes whenever a cluster started by this code would differ from one started by other code. Where the binaries'
    cache lies does not count: their folders carry version and content in the name."""
    commands = [[argument.split("/bin/")[-1] for argument in service.argv] for service in services(tools)]
    contents = {str(path): text for path, text in files(host).items()}
    leaves = [[leaf.name, leaf.subject, leaf.names] for leaf in LEAVES]
    whole = json.dumps([commands, contents, leaves, dns.manifests(), tools.coredns.name], sort_keys=True)
    return hashlib.sha256(whole.encode()).hexdigest()
