"""Where the embedded cluster lives, and the names and addresses it uses, for every other module of the package.

The places are fixed, not relative to a clone, so that a second clone on the machine finds the cluster of the first.
"""

from pathlib import Path

# Small things that must not outlive a boot: lock, process records, credentials, sockets, logs.
RUN = Path("/run/auralink-cluster")
# What may grow (image store, etcd, volumes) goes to a real disk: /run is a small tmpfs on most machines.
DATA = Path("/var/lib/auralink-cluster")

LOCK = Path("/run/auralink-cluster.lock")
PIDS = RUN / "pids"
LOGS = RUN / "logs"
PKI = RUN / "pki"
CNI = RUN / "cni"
KUBECONFIG = RUN / "admin.conf"
AUDIT_LOG = LOGS / "audit.log"
CONTAINERD_SOCKET = RUN / "containerd" / "containerd.sock"

NODE_NAME = "auralink-node"
# A /32 on `lo`: an address that pods reach through their gateway and the network outside does not reach at all.
# Neither it nor the pods' range is one that Docker, podman or the usual home network hands out.
NODE_IP = "10.245.0.1"
POD_CIDR = "10.244.0.0/24"
SERVICE_CIDR = "10.96.0.0/16"
API_SERVICE_IP = "10.96.0.1"
DNS_IP = "10.96.0.10"
DOMAIN = "cluster.local"
BRIDGE = "auralink0"
CNI_NETWORK = "auralink-pods"
# Below it are the pods' cgroups: /kubepods, where a kubelet puts them if it is not told, would be everybody's.
CGROUP = "auralink"

API_PORT = 6443
ETCD_PORT = 12379
ETCD_PEER_PORT = 12380
KUBELET_PORT = 10250
KUBELET_HEALTH_PORT = 10248

PAUSE_IMAGE = "localhost/pause:1"
COREDNS_IMAGE = "localhost/coredns:1.15.0"
