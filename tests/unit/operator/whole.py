"""Objects in which every field says something: what a table of wrong ones begins with."""

from typing import Any

from auralink_operator.index import Obj


def _ref(name: str) -> Obj:
    return {"name": name, "key": "value"}


def medium(codec: str, **more: Any) -> Obj:
    wrapped = {"redType": 97} if codec == "Opus" else {"rtxType": 97}
    return {"payloads": [{"type": 96, "codec": codec, "fmtp": "a=b", **wrapped}], **more}


_RTP_ROOM: Obj = {
    "name": "plain",
    "labels": {"tier": "gold"},
    "legs": [
        {
            "name": "in",
            "direction": "Both",
            "rtp": {
                "video": medium("H264", listenPort=5004, remote="peer.example:5004"),
                "audio": medium("Opus", listenPort=5006, remote="[2001:db8::1]:5006"),
                "rtcpMux": True,
                "feedback": "AVPF",
                "extensionId": 3,
                "carrier": "InBand",
                "extensions": [{"id": 16, "uri": "urn:3gpp:video-orientation"}],
                "srtp": {"suite": "AEAD_AES_128_GCM", "keyRef": _ref("srtp"), "sendKeyRef": _ref("srtp-send")},
            },
        },
        {
            "name": "out",
            "direction": "Send",
            "rtp": {
                "video": medium("AV1", remote="10.0.0.1:5004"),
                "rtcpMux": False,
                "feedback": "AVPF",
                "extensionId": 14,
                "carrier": "InBand",
            },
        },
    ],
}
_ENDPOINT_ROOM: Obj = {
    "name": "rooms",
    "labels": {},
    "glob": "team-*",
    "legs": [
        {"name": "jitsi", "direction": "Both", "endpoint": "meet", "room": "{room}"},
        {"name": "livekit", "direction": "Both", "endpoint": "live"},
    ],
}
_ENDPOINTS: list[Obj] = [
    {
        "name": "meet",
        "type": "Jitsi",
        "jitsi": {
            "xmppUrl": "wss://meet.example/xmpp-websocket",
            "domain": "meet.example",
            "mucDomain": "conference.meet.example",
            "jwt": {"appId": "auralink", "keyRef": _ref("jwt")},
            "eventTokenRef": _ref("events"),
            "censusUrl": "http://prosody:5280/room-census",
        },
    },
    {
        "name": "live",
        "type": "LiveKit",
        "livekit": {
            "url": "wss://livekit.example",
            "apiKeyRef": _ref("livekit"),
            "apiSecretRef": _ref("livekit"),
            "webhooks": False,
        },
    },
]
_POD: Obj = {
    "labels": {"team": "media"},
    "annotations": {"example.com/a": "b"},
    "nodeSelector": {"kubernetes.io/os": "linux"},
    "priorityClassName": "high",
    "imagePullSecrets": [{"name": "registry"}],
    "template": {"spec": {"tolerations": [{"operator": "Exists"}]}},
}
_EXPOSURE: Obj = {
    "mode": "LoadBalancer",
    "nodeAddressType": "InternalIP",
    "loadBalancerClass": "example.com/lb",
    "serviceAnnotations": {"service.beta.kubernetes.io/aws-load-balancer-cross-zone-load-balancing-enabled": "true"},
    "addressMap": [
        {"discovered": "10.0.0.1", "public": "203.0.113.1"},
        {"discovered": "fd00::1", "public": "2001:db8::1"},
    ],
}
_SPEC: Obj = {
    "suspend": True,
    "region": "eu-west",
    "environment": "production",
    "logLevel": "Debug",
    "endpoints": _ENDPOINTS,
    "rooms": [_RTP_ROOM, _ENDPOINT_ROOM],
    "aiCore": {
        "addresses": ["ai-core-1:50051", "ai-core-2:50051"],
        "failover": "Standby",
        "tlsSecretName": "ai-core",
        "timeoutMs": 200,
        "breaker": {"failures": 3, "openSeconds": 30},
    },
    "compression": {
        "mode": "Always",
        "targetSavingsPercent": 30,
        "minSavingsPercent": 10,
        "qualityLevel": 5,
        "qualityFloor": 70,
        "latencyBudgetMs": 25,
        "model": "m1",
    },
    "redis": {
        "addresses": ["redis-1:26379", "redis-2:26379"],
        "topology": "Sentinel",
        "master": "main",
        "database": 1,
        "user": "auralink",
        "passwordRef": _ref("redis"),
        "tls": True,
        "caRef": _ref("redis"),
    },
    "postgres": {
        "address": "postgres:5432",
        "database": "records",
        "user": "writer",
        "passwordRef": _ref("postgres"),
        "tls": True,
        "caRef": _ref("postgres"),
    },
    "dashboard": {"url": "https://dashboard.example/api", "apiKeyRef": _ref("dashboard")},
    "communication": {"url": "http://communication:8080", "tokenRef": _ref("communication")},
    "api": {"tokenRef": _ref("api")},
    "autoscaling": {
        "driver": "Operator",
        "minReplicas": 1,
        "maxReplicas": 100,
        "targetSessionsPerPod": 20,
        "targetCPUPercent": 70,
        "scaleDownStabilizationSeconds": 600,
    },
    "exposure": _EXPOSURE,
    "drain": {"strategy": "Wait", "timeoutSeconds": 60, "propagationSeconds": 2, "onDelete": True},
    "networkPolicy": {
        "enabled": True,
        "mediaFrom": ["10.0.0.0/8", "2001:db8::/32"],
        "monitoringNamespace": "monitoring",
        "webhooksFrom": ["192.0.2.0/24"],
    },
    "monitoring": {"serviceMonitor": "Disabled"},
    "podDisruptionBudget": False,
    "image": "registry.example/data-plane:1",
    "resources": {"requests": {"cpu": 1, "memory": "1Gi"}, "limits": {"memory": "2Gi"}},
    "pod": _POD,
}
_POLICY: Obj = {
    "bridgeSelector": {"matchLabels": {"app.kubernetes.io/part-of": "media"}},
    "rooms": {"names": ["town-*", "hall"], "labels": {"tier": "gold"}},
    "priority": 10,
    "compression": {
        "mode": "Always",
        "targetSavingsPercent": 30,
        "minSavingsPercent": 10,
        "qualityLevel": 5,
        "qualityFloor": 70,
        "latencyBudgetMs": 25,
        "model": "m1",
        "roomsPercent": 50,
    },
    "maxParticipants": 100,
    "media": {"audio": "Allow", "video": "Allow", "screenShare": "Deny", "data": "Deny"},
    "identity": {"privacy": "Pseudonym"},
    "codecs": ["H264", "VP8"],
}


def _object(kind: str, spec: Obj) -> Obj:
    return {"apiVersion": "auralink.io/v1alpha1", "kind": kind, "metadata": {"name": "whole"}, "spec": spec}


BASES: dict[str, Obj] = {
    "scaled": _object("AuraLinkBridge", _SPEC),
    "fixed": _object(
        "AuraLinkBridge", {**{name: value for name, value in _SPEC.items() if name != "autoscaling"}, "replicas": 3}
    ),
    "policy": _object("RoomPolicy", _POLICY),
}
