"""A pod template of a bridge is merged onto ours as the API server merges a strategic patch."""

import copy
import itertools
from collections.abc import AsyncIterator, Mapping

import pytest
from auralink_operator.manifests import differs, merge_template, pod_template
from auralink_operator.models import parse_bridge
from auralink_operator.settings import Settings

from tests.integration.kube_api import ApiServer, Kube, Obj, hands

SETTINGS = Settings(data_plane_image="registry.test/data-plane:1", ai_core_address="ai-core.system:50051")
ROOM: Obj = {
    "name": "studio",
    "legs": [
        {"name": "in", "rtp": {"video": {"payloads": [{"type": 96, "codec": "H264"}], "listenPort": 5004}}},
        {"name": "out", "rtp": {"video": {"payloads": [{"type": 96, "codec": "H264"}], "remote": "peer:5004"}}},
    ],
}
_numbers = itertools.count(1)


@pytest.fixture
async def kube(api_server: ApiServer) -> AsyncIterator[Kube]:
    async with hands(api_server, f"template-{next(_numbers)}") as found:
        yield found


BASE = pod_template(
    parse_bridge(
        {
            "metadata": {"name": "b", "namespace": "ns", "uid": "u"},
            "spec": {"rooms": [ROOM], "aiCore": {"tlsSecretName": "tls"}, "exposure": {"mode": "HostPort"}},
        }
    ),
    SETTINGS,
)
CONTAINER: Obj = {"name": "data-plane"}
PATCHES: Mapping[str, Obj] = {
    "nothing": {},
    "labels": {"metadata": {"labels": {"a": "b"}, "annotations": {"c": "d"}}},
    "sidecar": {"spec": {"containers": [{"name": "side", "image": "s:1"}]}},
    "sidecar after": {"spec": {"containers": [CONTAINER, {"name": "side", "image": "s:1"}]}},
    "two sidecars around": {
        "spec": {"containers": [{"name": "a", "image": "a:1"}, CONTAINER, {"name": "z", "image": "z:1"}]}
    },
    "init containers": {"spec": {"initContainers": [{"name": "i", "image": "i:1", "env": None}]}},
    "env": {"spec": {"containers": [{**CONTAINER, "env": [{"name": "NEW", "value": "1"}]}]}},
    "env changed": {"spec": {"containers": [{**CONTAINER, "env": [{"name": "HTTP_PORT", "value": "9"}]}]}},
    "env reordered": {
        "spec": {
            "containers": [
                {
                    **CONTAINER,
                    "env": [
                        {"name": "POD_IP"},
                        {"name": "NEW", "value": "1"},
                        {"name": "BRIDGE_ID"},
                        {"name": "LAST", "value": "1"},
                    ],
                }
            ]
        }
    },
    "env deleted": {"spec": {"containers": [{**CONTAINER, "env": [{"name": "NODE_NAME", "$patch": "delete"}]}]}},
    "env of another kind": {
        "spec": {"containers": [{**CONTAINER, "env": [{"name": "POD_IP", "value": "1", "valueFrom": None}]}]}
    },
    "env replaced": {
        "spec": {"containers": [{**CONTAINER, "env": [{"$patch": "replace"}, {"name": "ONLY", "value": "1"}]}]}
    },
    "args": {"spec": {"containers": [{**CONTAINER, "args": ["a", "b"], "command": ["c"]}]}},
    "probe removed": {"spec": {"containers": [{**CONTAINER, "startupProbe": None}]}},
    "probe replaced": {
        "spec": {"containers": [{**CONTAINER, "livenessProbe": {"$patch": "replace", "exec": {"command": ["true"]}}}]}
    },
    "resources deleted": {"spec": {"containers": [{**CONTAINER, "resources": {"$patch": "delete"}}]}},
    "ports": {"spec": {"containers": [{**CONTAINER, "ports": [{"containerPort": 7000, "name": "more"}]}]}},
    "port deleted": {"spec": {"containers": [{**CONTAINER, "ports": [{"containerPort": 5004, "$patch": "delete"}]}]}},
    "mounts": {
        "spec": {
            "containers": [{**CONTAINER, "volumeMounts": [{"mountPath": "/x", "name": "x"}]}],
            "volumes": [{"name": "x", "configMap": {"name": "x"}}],
        }
    },
    "volume of another kind": {
        "spec": {
            "volumes": [{"name": "tmp", "$retainKeys": ["name", "hostPath"], "hostPath": {"path": "/tmp"}}],
        }
    },
    "volume deleted": {
        "spec": {
            "volumes": [{"name": "tmp", "$patch": "delete"}],
            "containers": [{**CONTAINER, "volumeMounts": [{"mountPath": "/tmp", "$patch": "delete"}]}],
        }
    },
    "tolerations": {"spec": {"tolerations": [{"key": "a", "operator": "Exists"}]}},
    "affinity": {
        "spec": {
            "affinity": {
                "podAntiAffinity": {
                    "requiredDuringSchedulingIgnoredDuringExecution": [
                        {"topologyKey": "zone", "labelSelector": {"matchLabels": {"a": "b"}}}
                    ]
                }
            }
        }
    },
    "spread": {
        "spec": {
            "topologySpreadConstraints": [
                {"topologyKey": "topology.kubernetes.io/zone", "maxSkew": 2},
                {"topologyKey": "rack", "maxSkew": 1, "whenUnsatisfiable": "DoNotSchedule"},
            ]
        }
    },
    "security": {
        "spec": {"securityContext": {"fsGroup": None, "sysctls": [{"name": "net.core.rmem_max", "value": "9"}]}}
    },
    "capabilities": {
        "spec": {"containers": [{**CONTAINER, "securityContext": {"capabilities": {"add": ["NET_BIND_SERVICE"]}}}]}
    },
    "host aliases": {"spec": {"hostAliases": [{"ip": "10.0.0.1", "hostnames": ["a"]}]}},
    "pull secrets": {"spec": {"imagePullSecrets": [{"name": "a"}, {"name": "b"}]}},
    "dns": {"spec": {"dnsConfig": {"nameservers": ["10.0.0.2"], "searches": None}, "dnsPolicy": "None"}},
}


@pytest.mark.parametrize("patch", PATCHES.values(), ids=PATCHES)
async def test_a_template_is_merged_as_the_api_server_merges_it(kube: Kube, patch: Obj) -> None:
    """Lists in the same order too: an env variable may refer to those before it."""
    made = {"apiVersion": "v1", "kind": "PodTemplate", "metadata": {"name": "t"}, "template": BASE}
    await kube.create("podtemplates", made)
    path = f"/api/v1/namespaces/{kube.namespace}/podtemplates"
    theirs = await kube.raw("PATCH", f"{path}/t", {"template": patch}, "application/strategic-merge-patch+json")
    ours = merge_template(BASE, copy.deepcopy(patch))
    again = await kube.create("podtemplates", {**made, "metadata": {"name": "ours"}, "template": ours})
    assert again["template"] == theirs["template"]
    assert differs(ours, theirs["template"]) is None


CLAIM = {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1024Mi"}}}
DIVISOR = {"containerName": "data-plane", "resource": "limits.memory", "divisor": "1024Ki"}
ALL_SORTS: Mapping[str, Obj] = {
    "false and zero": {
        "hostIPC": False,
        "hostPID": False,
        "hostNetwork": False,
        "shareProcessNamespace": False,
        "setHostnameAsFQDN": False,
        "containers": [
            {
                "name": "data-plane",
                "tty": False,
                "stdin": False,
                "stdinOnce": False,
                "livenessProbe": {"initialDelaySeconds": 0, "timeoutSeconds": 0, "successThreshold": 0},
                "volumeMounts": [{"mountPath": "/x", "name": "x", "readOnly": False}],
            }
        ],
        "volumes": [{"name": "x", "nfs": {"server": "s", "path": "/p", "readOnly": False}}],
    },
    "empty": {
        "hostname": "",
        "nodeSelector": {},
        "tolerations": [],
        "affinity": {},
        "securityContext": {"supplementalGroups": [], "sysctls": []},
        "containers": [{"name": "data-plane", "args": [], "envFrom": [], "lifecycle": {}, "workingDir": ""}],
    },
    "volumes": {
        "volumes": [
            {"name": "a", "configMap": {"name": "c", "items": [{"key": "k", "path": "p"}]}},
            {"name": "b", "secret": {"secretName": "s"}},
            {"name": "c", "hostPath": {"path": "/h"}},
            {"name": "d", "emptyDir": {"medium": "Memory", "sizeLimit": "0.5Gi"}},
            {"name": "e", "ephemeral": {"volumeClaimTemplate": {"spec": CLAIM}}},
            {"name": "f", "downwardAPI": {"items": [{"path": "m", "resourceFieldRef": DIVISOR}]}},
            {"name": "g", "projected": {"sources": [{"serviceAccountToken": {"path": "t"}}]}},
            {"name": "h", "csi": {"driver": "d", "readOnly": False}},
        ]
    },
    "containers": {
        "initContainers": [{"name": "i", "image": "i:1", "restartPolicy": "Always"}],
        "containers": [
            {
                "name": "data-plane",
                "ports": [{"containerPort": 7000}, {"containerPort": 7000, "protocol": "UDP"}],
                "env": [{"name": "OWN", "valueFrom": {"fieldRef": {"fieldPath": "status.hostIP"}}}],
                "envFrom": [{"configMapRef": {"name": "c"}}],
                "lifecycle": {"preStop": {"httpGet": {"path": "/", "port": "http"}}},
                "resizePolicy": [{"resourceName": "cpu", "restartPolicy": "NotRequired"}],
                "startupProbe": {"$patch": "replace", "grpc": {"port": 5}},
                "livenessProbe": {"$patch": "replace", "tcpSocket": {"port": "http"}},
                "resources": {"limits": {"cpu": 2, "memory": "2e9", "ephemeral-storage": "1.5Gi"}},
            }
        ],
    },
    "scheduling": {
        "runtimeClassName": "r",
        "schedulerName": "s",
        "readinessGates": [{"conditionType": "example.com/ready"}],
        "tolerations": [{"operator": "Exists"}, {"key": "a", "effect": "NoExecute", "tolerationSeconds": 0}],
        "topologySpreadConstraints": [
            {
                "topologyKey": "topology.kubernetes.io/zone",
                "whenUnsatisfiable": "DoNotSchedule",
                "maxSkew": 1,
                "labelSelector": {},
                "matchLabelKeys": None,
            }
        ],
        "affinity": {
            "nodeAffinity": {
                "preferredDuringSchedulingIgnoredDuringExecution": [
                    {"weight": 1, "preference": {"matchExpressions": [{"key": "a", "operator": "Exists"}]}}
                ]
            }
        },
    },
}


@pytest.mark.parametrize("spec", ALL_SORTS.values(), ids=ALL_SORTS)
async def test_a_merged_template_does_not_differ_once_it_is_applied(kube: Kube, spec: Obj) -> None:
    """However much the server adds, and whatever it makes of false, zero and nothing."""
    template = merge_template(BASE, {"spec": copy.deepcopy(spec)})
    labels = template["metadata"]["labels"]
    deployment = {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": "d"},
        "spec": {"selector": {"matchLabels": labels}, "template": template},
    }
    applied = await kube.apply("deployments", deployment, "auralink-operator")
    assert differs(template, applied["spec"]["template"]) is None
