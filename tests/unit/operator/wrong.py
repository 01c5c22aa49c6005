"""Objects that the API server must refuse, each with what it must say: from the CRDs, one for each bound of each field,
and by hand, one at least for each CEL rule. `test_schema` sees to it that no field and no rule is left out."""

import copy
from collections.abc import Iterator
from typing import Any, NamedTuple

from auralink_operator.index import Obj

from tests.unit.operator.whole import BASES, medium

Schema = dict[str, Any]
Place = tuple[str | int, ...]


class Wrong(NamedTuple):
    """What makes `base` wrong: the value at a place, or `...` to remove it; `said` must be in the refusal."""

    base: str
    place: Place
    value: Any
    said: tuple[str, ...]

    @property
    def name(self) -> str:
        return f"{self.base}: {written(self.place)} = {self.value!r:.40}"

    def made(self) -> Obj:
        return changed(BASES[self.base], self.place, self.value)


class Right(NamedTuple):
    """A change that must be accepted."""

    base: str
    place: Place
    value: Any

    def made(self) -> Obj:
        return changed(BASES[self.base], self.place, self.value)


def written(place: Place) -> str:
    """A place as the API server writes it."""
    return "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in place).lstrip(".")


def changed(obj: Obj, place: Place, value: Any) -> Obj:
    found = copy.deepcopy(obj)
    node: Any = found
    for part in place[:-1]:
        node = node[part] if isinstance(part, int) else node.setdefault(part, {})
    if value is ...:
        del node[place[-1]]
    else:
        node[place[-1]] = value
    return found


# --- one for each bound of each field -------------------------------------------------------------------------------


class Spot(NamedTuple):
    """A field: its schema, where it is in a base, and its path in the schema."""

    base: str
    schema: Schema
    place: Place
    value: Any
    path: str


def spots(crds: dict[str, Schema]) -> Iterator[Spot]:
    """Every field of every base, each path once."""
    seen: set[tuple[str, str]] = set()
    for base, obj in BASES.items():
        crd = next(crd for crd in crds.values() if crd["spec"]["names"]["kind"] == obj["kind"])
        root = crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"]
        for spot in _below(base, root, ("spec",), obj["spec"], "spec"):
            if (obj["kind"], spot.path) not in seen:
                seen.add((obj["kind"], spot.path))
                yield spot


def _below(base: str, schema: Schema, place: Place, value: Any, path: str) -> Iterator[Spot]:
    yield Spot(base, schema, place, value, path)
    if isinstance(value, dict):
        for name, child in schema.get("properties", {}).items():
            if name in value:
                yield from _below(base, child, (*place, name), value[name], f"{path}.{name}")
        if isinstance(schema.get("additionalProperties"), dict):
            for key, child in value.items():
                yield Spot(base, schema["additionalProperties"], (*place, key), child, f"{path}{{}}")
    if isinstance(value, list):
        for number, child in enumerate(value):
            yield from _below(base, schema["items"], (*place, number), child, f"{path}[]")


_OTHER_TYPE = {"string": 7, "integer": "seven", "boolean": "perhaps", "array": "none", "object": "none"}


def wrongs(spot: Spot) -> Iterator[Wrong]:
    """One wrong value for each bound of a field."""
    schema, value, at = spot.schema, spot.value, written(spot.place)

    def wrong(bad: Any, *said: str, place: Place = ()) -> Wrong:
        return Wrong(spot.base, (*spot.place, *place), bad, (written((*spot.place, *place)), *said))

    kind = schema.get("type")
    if kind in _OTHER_TYPE:
        yield wrong(_OTHER_TYPE[kind], f"must be of type {kind}")
    if "minimum" in schema:
        yield wrong(schema["minimum"] - 1, f"greater than or equal to {schema['minimum']}")
    if "maximum" in schema:
        yield wrong(schema["maximum"] + 1, f"less than or equal to {schema['maximum']}")
    if schema.get("minLength"):
        yield wrong("", f"at least {schema['minLength']} chars")
    if "maxLength" in schema:
        yield wrong("a" * (schema["maxLength"] + 1), f"may not be more than {schema['maxLength']}")
    if "pattern" in schema:
        yield wrong("no one wants {this}\n", "should match")
    if "enum" in schema:
        yield wrong("Perhaps", "supported values", *schema["enum"])
    for name in schema.get("required", ()):
        yield wrong(..., "Required value", place=(name,))
    if "maxItems" in schema:
        yield wrong([value[0]] * (schema["maxItems"] + 1), f"must have at most {schema['maxItems']} items")
    if schema.get("minItems"):
        yield wrong(value[: schema["minItems"] - 1], f"should have at least {schema['minItems']} items")
    if schema.get("x-kubernetes-list-type") in ("set", "map"):
        yield Wrong(spot.base, spot.place, [value[0], value[0]], (f"{at}[1]", "Duplicate value"))
    if "maxProperties" in schema:
        some = next(iter(value.values()), "v")
        many = {f"k{number}": some for number in range(schema["maxProperties"] + 1)}
        yield wrong(many, f"must have at most {schema['maxProperties']}")


def rights(spot: Spot) -> Iterator[Right]:
    """The least and the most that a field may be."""
    for bound in ("minimum", "maximum"):
        if bound in spot.schema:
            # minReplicas of 1 lets maxReplicas be anything, and maxReplicas of 100 minReplicas.
            yield Right(spot.base, spot.place, spot.schema[bound])
    free = not {"pattern", "x-kubernetes-validations"} & spot.schema.keys()
    if "maxLength" in spot.schema and free and not spot.path.endswith(".endpoint"):  # that names one of spec.endpoints
        yield Right(spot.base, spot.place, "a" * spot.schema["maxLength"])


# --- one for each rule ----------------------------------------------------------------------------------------------

_LEG: Place = ("spec", "rooms", 0, "legs", 0)
_ENDPOINT_LEG: Place = ("spec", "rooms", 1, "legs", 0)


def _rule(base: str, place: Place, value: Any, at: str, message: str) -> Wrong:
    return Wrong(base, place, value, (at, message))


_ADDRESS = "an address is host:port with a port from 1 to 65535"
_KEYS = "keys have up to 63 letters"
_RESERVED = "are the operator's: choose another prefix"
_NO_EFFECT: tuple[Obj, ...] = (
    {},
    {"compression": {}},
    {"compression": {"roomsPercent": 50}},
    {"media": {}},
    {"identity": {}},
    {"priority": 5, "rooms": {"names": ["a"]}},
)
RULES: tuple[Wrong, ...] = (
    _rule("fixed", ("metadata", "name"), "a" * 37, "metadata.name", "up to 36"),
    _rule("fixed", ("metadata", "name"), "1abc", "metadata.name", "begin with a letter"),
    _rule("fixed", ("metadata", "name"), "a.b", "metadata.name", "letters, digits and '-'"),
    _rule("scaled", ("spec", "replicas"), 3, "spec.replicas", "replicas and autoscaling exclude each other"),
    _rule("fixed", ("spec", "redis"), ..., "spec", "several pods share rooms of endpoints through Redis"),
    _rule("scaled", ("spec", "redis"), ..., "spec", "several pods share rooms of endpoints through Redis"),
    _rule("fixed", (*_ENDPOINT_LEG, "endpoint"), "nobody", "spec.rooms", "a leg names an endpoint that is not in"),
    _rule("fixed", ("spec", "endpoints", 0, "type"), "LiveKit", "spec.endpoints[0]", "settings of its type only"),
    _rule("fixed", ("spec", "endpoints", 0, "jitsi"), ..., "spec.endpoints[0]", "settings of its type only"),
    _rule("fixed", ("spec", "endpoints", 1, "livekit"), ..., "spec.endpoints[1]", "settings of its type only"),
    _rule(
        "fixed",
        ("spec", "endpoints", 1, "jitsi"),
        {"xmppUrl": "wss://x", "domain": "x"},
        "spec.endpoints[1]",
        "settings of its type only",
    ),
    _rule("fixed", ("spec", "rooms", 0, "glob"), "*", "spec.rooms[0]", "a room with glob follows rooms at endpoints"),
    _rule("fixed", ("spec", "rooms", 0, "labels"), {"k" * 64: "v"}, "spec.rooms[0].labels", "keys have up to 63"),
    _rule("policy", ("spec", "rooms", "labels"), {"k" * 64: "v"}, "spec.rooms.labels", "keys have up to 63"),
    _rule("fixed", (*_LEG, "endpoint"), "meet", written(_LEG), "set exactly one of endpoint and rtp"),
    _rule("fixed", (*_LEG, "rtp"), ..., written(_LEG), "set exactly one of endpoint and rtp"),
    _rule("fixed", (*_LEG, "room"), "elsewhere", f"{written(_LEG)}.room", "an RTP peer has none"),
    _rule(
        "fixed",
        _LEG,
        {"name": "in", "direction": "Receive", "rtp": {"video": medium("H264", remote="a:1")}},
        f"{written(_LEG)}.rtp",
        "direction Receive needs listenPort",
    ),
    _rule(
        "fixed",
        _LEG,
        {"name": "in", "direction": "Receive", "rtp": {"audio": medium("Opus", remote="a:1")}},
        f"{written(_LEG)}.rtp",
        "direction Receive needs listenPort",
    ),
    _rule(
        "fixed",
        _LEG,
        {"name": "in", "direction": "Send", "rtp": {"video": medium("H264", listenPort=5004)}},
        f"{written(_LEG)}.rtp",
        "direction Send needs remote",
    ),
    _rule(
        "fixed",
        _LEG,
        {"name": "in", "direction": "Send", "rtp": {"audio": medium("Opus", listenPort=5004)}},
        f"{written(_LEG)}.rtp",
        "direction Send needs remote",
    ),
    _rule("fixed", (*_LEG, "rtp"), {}, f"{written(_LEG)}.rtp", "rtp needs video or audio"),
    _rule("fixed", (*_LEG, "rtp", "video"), medium("H264"), f"{written(_LEG)}.rtp.video", "a medium needs listenPort"),
    _rule(
        "fixed",
        (*_LEG, "rtp", "video"),
        medium("Opus", listenPort=5004),
        f"{written(_LEG)}.rtp.video",
        "Opus is an audio codec",
    ),
    _rule(
        "fixed",
        (*_LEG, "rtp", "audio"),
        medium("VP8", listenPort=5004),
        f"{written(_LEG)}.rtp.audio",
        "only Opus is audio",
    ),
    *(
        _rule(
            "fixed",
            (*_LEG, "rtp", name, "payloads", 0, "type"),
            number,
            f"{written(_LEG)}.rtp.{name}",
            "with rtcpMux payload types 64 to 95",
        )
        for name in ("video", "audio")
        for number in (64, 95)
    ),
    *(
        _rule(
            "fixed",
            (*_LEG, "rtp", name, "payloads", 0, key),
            number,
            f"{written(_LEG)}.rtp.{name}",
            "with rtcpMux payload types 64 to 95",
        )
        for name, key in (("video", "rtxType"), ("audio", "redType"))
        for number in (64, 95)
    ),
    *(
        _rule(
            "fixed",
            (*_LEG, "rtp", name, "payloads", 0, key),
            96,
            f"{written(_LEG)}.rtp.{name}.payloads",
            f"a payload type stands for one thing: give {key} a number of its own",
        )
        for name, key in (("video", "rtxType"), ("audio", "redType"))
    ),
    _rule("fixed", (*_LEG, "rtp", "feedback"), "None", f"{written(_LEG)}.rtp.video", "nobody asks for retransmissions"),
    *(
        _rule("fixed", (*_LEG, "rtp", "video"), wrong, f"{written(_LEG)}.rtp.carrier", "carry the extension in band")
        for wrong in (..., medium("VP8", listenPort=5004))
    ),
    *(
        _rule(
            "fixed",
            (*_LEG, "rtp", "extensions"),
            wrong,
            f"{written(_LEG)}.rtp.extensions",
            "an id stands for one URI",
        )
        for wrong in ([{"id": 3, "uri": "urn:a"}], [{"id": 1, "uri": "urn:a"}, {"id": 2, "uri": "urn:a"}])
    ),
    _rule(
        "fixed",
        (*_LEG, "rtp", "extensions", 0, "id"),
        15,
        f"{written(_LEG)}.rtp.extensions[0].id",
        "id 15 is reserved",
    ),
    *(
        _rule("fixed", ("spec", "aiCore", "addresses"), [wrong], "spec.aiCore.addresses[0]", said)
        for wrong, said in (
            ("ai-core", _ADDRESS),
            ("ai-core:0", _ADDRESS),
            ("ai-core:65536", _ADDRESS),
            ("ai-core:99999", _ADDRESS),
            ("a..b:1", "should match"),
            (".a:1", "should match"),
            ("a.:1", "should match"),
            ("-a:1", "should match"),
            ("a-.b:1", "should match"),
            ("::1:5", "should match"),
            ("http://a:1", "should match"),
            ("a b:1", "should match"),
        )
    ),
    _rule("fixed", ("spec", "redis", "master"), ..., "spec.redis", "topology Sentinel needs the name of its master"),
    _rule("fixed", ("spec", "redis", "topology"), "Standalone", "spec.redis", "topology Sentinel needs the name"),
    _rule(
        "fixed",
        ("spec", "redis"),
        {"addresses": ["a:1"], "topology": "Cluster", "database": 1},
        "spec.redis.database",
        "a Redis Cluster has database 0 only",
    ),
    _rule(
        "scaled", ("spec", "autoscaling"), {"maxReplicas": 1}, "spec.autoscaling.minReplicas", "is above maxReplicas"
    ),
    _rule("fixed", ("spec", "pod", "labels"), {"k" * 318: "v"}, "spec.pod.labels", _KEYS),
    _rule("fixed", ("spec", "pod", "nodeSelector"), {"k" * 318: "v"}, "spec.pod.nodeSelector", _KEYS),
    _rule("fixed", ("spec", "pod", "annotations"), {"": "v"}, "spec.pod.annotations", _KEYS),
    _rule("fixed", ("spec", "pod", "labels"), {"two/slashes/here": "v"}, "spec.pod.labels", _KEYS),
    _rule("fixed", ("spec", "pod", "labels"), {"no space": "v"}, "spec.pod.labels", _KEYS),
    _rule("policy", ("spec", "bridgeSelector", "matchLabels"), {"": "v"}, "spec.bridgeSelector.matchLabels", _KEYS),
    _rule("fixed", ("spec", "exposure", "serviceAnnotations"), {"": "v"}, "spec.exposure.serviceAnnotations", _KEYS),
    *(
        _rule("fixed", ("spec", "pod", name), {f"{prefix}/x": "v"}, f"spec.pod.{name}", _RESERVED)
        for name in ("labels", "annotations")
        for prefix in ("auralink.io", "app.kubernetes.io")
    ),
    *(
        _rule(
            "fixed",
            ("spec", "exposure", "addressMap", 0, name),
            wrong,
            f"spec.exposure.addressMap[0].{name}",
            "an IP address without port or range is needed",
        )
        for name in ("discovered", "public")
        for wrong in ("", "host.example", "10.0.0.0/8", "10.0.0.1:80", "256.0.0.1")
    ),
    *(
        _rule(
            "fixed",
            ("spec", "networkPolicy", name),
            [wrong],
            f"spec.networkPolicy.{name}[0]",
            "an address range is written as",
        )
        for name in ("mediaFrom", "webhooksFrom")
        for wrong in ("", "10.0.0.1", "10.0.0.0/33", "anywhere")
    ),
    *(_rule("policy", ("spec",), spec, "spec", "a policy needs an effect") for spec in _NO_EFFECT),
    *(
        _rule("fixed", place, wrong, written(place), "should match")
        for place, wrong in (
            (("spec", "endpoints", 0, "jitsi", "xmppUrl"), "https://meet.example"),
            (("spec", "endpoints", 0, "jitsi", "censusUrl"), "wss://meet.example"),
            (("spec", "endpoints", 0, "jitsi", "domain"), "meet..example"),
            (("spec", "endpoints", 1, "livekit", "url"), "livekit.example"),
            (("spec", "dashboard", "url"), "https://user:secret@dashboard.example"),
            (("spec", "dashboard", "url"), "ftp://dashboard.example"),
            (("spec", "communication", "url"), "https://"),
            ((*_ENDPOINT_LEG, "room"), "{name}"),
            (("spec", "api", "tokenRef", "key"), "../up"),
            (("spec", "aiCore", "tlsSecretName"), "No Name"),
            (("spec", "pod", "nodeSelector", "disk"), "no space"),
        )
    ),
)
