"""What pods write for each other is read back as it was, and nothing else is read at all."""

import json
from typing import Any

import pytest
from auralink_dataplane.rooms import documents
from auralink_dataplane.rooms.capabilities import MediaCapabilities
from auralink_dataplane.rooms.documents import (
    IDENTITY,
    MAX_DOCUMENT_BYTES,
    MEDIA,
    PARTICIPANT,
    ROOM,
    Document,
    DocumentError,
    Fault,
    IdentityRecord,
    RoomRecord,
)
from auralink_dataplane.rooms.events import Role, Side, Track, TrackSource, Version
from auralink_dataplane.rooms.identity import IdentityInfo
from auralink_dataplane.rooms.media_state import MediaState, QualityLevel
from auralink_dataplane.rooms.participants import ParticipantMetadata, PresenceStatus
from auralink_dataplane.rooms.quality import QoSMetrics, QoSSource
from hypothesis import given
from hypothesis import strategies as st

ALL: tuple[Document[Any], ...] = (PARTICIPANT, ROOM, MEDIA, IDENTITY)

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
COUNT = st.integers(0, (1 << 53) - 1)
KBPS = st.integers(0, 100_000_000)
QOS_METRICS = st.builds(
    QoSMetrics,
    st.sampled_from(QoSSource),
    COUNT,
    st.none() | st.floats(0, 100),
    st.none() | st.floats(0, 600_000),
    st.none() | st.integers(0, 600_000),
    st.none() | KBPS,
    st.none() | st.floats(1, 4.5),
)
CAPABILITIES = st.builds(
    MediaCapabilities,
    st.lists(st.text(max_size=5), max_size=5).map(tuple),
    st.lists(st.text(max_size=5), max_size=5).map(tuple),
    st.sampled_from(["", "1080p"]),
    st.integers(0, 1000),
    KBPS,
    st.booleans(),
    st.booleans(),
)
TRACKS = st.builds(
    Track, TEXT, st.sampled_from(TrackSource), st.booleans(), TEXT, st.integers(), st.integers(), st.booleans()
)
PARTICIPANTS = st.builds(
    ParticipantMetadata,
    participant_id=TEXT,
    side=st.sampled_from(Side),
    version=st.builds(Version, st.integers(), st.integers()),
    name=TEXT,
    aura_id=TEXT,
    role=st.sampled_from(Role),
    hand_raised=st.booleans(),
    tracks=st.lists(TRACKS, max_size=3).map(tuple),
    origin=TEXT,
    is_bridge=st.booleans(),
    media_capabilities=st.none() | CAPABILITIES,
    qos_metrics=st.none() | QOS_METRICS,
    presence=st.sampled_from(PresenceStatus),
    updated_at=COUNT,
)
ROOMS = st.builds(RoomRecord, TEXT, TEXT, TEXT, TEXT, COUNT, st.none() | CAPABILITIES, COUNT, COUNT)
MEDIA_STATES = st.builds(
    MediaState, TEXT, st.integers(0, 1000), KBPS, st.sampled_from(QualityLevel), st.booleans(), st.floats(0, 1)
)
INFOS = st.builds(
    IdentityInfo, st.text("aura:123", min_size=1, max_size=9), TEXT, TEXT, st.just("+4930123456"), st.booleans()
)
IDENTITIES = st.builds(IdentityRecord, st.none() | INFOS, COUNT)
VALUES = st.one_of(
    *(
        st.tuples(st.just(document), values)
        for document, values in zip(ALL, (PARTICIPANTS, ROOMS, MEDIA_STATES, IDENTITIES), strict=True)
    )
)


@given(VALUES)
def test_what_is_written_is_read_back(pair: tuple[Document[Any], Any]) -> None:
    document, value = pair
    data = document.encode(value)
    assert document.decode(data) == document.decode(data.encode()) == value
    assert len(data.encode()) <= MAX_DOCUMENT_BYTES


def test_the_media_state_has_the_guides_fields() -> None:
    state = MediaState("conference123", 5, 3000, QualityLevel.HD, aic_enabled=True, compression_ratio=0.4)
    assert json.loads(MEDIA.encode(state)) == {
        "schema": 1,
        "kind": "media",
        "conferenceId": "conference123",
        "activeStreams": 5,
        "totalBandwidthKbps": 3000,
        "qualityLevel": "HD",
        "aicEnabled": True,
        "compressionRatio": 0.4,
    }


def test_a_participant_has_the_guides_fields() -> None:
    record = ParticipantMetadata(
        "participant456",
        Side.LIVEKIT,
        Version(5, 1),
        media_capabilities=MediaCapabilities(("H.264", "VP8", "VP9"), ("Opus", "G.722"), "1080p", 30, 2500, True, True),
        qos_metrics=QoSMetrics(QoSSource.OWN_LEG, 1697520000000, 2.5, 15.0, 45, 2000, 4.1),
    )
    written = json.loads(PARTICIPANT.encode(record))
    assert written["mediaCapabilities"] == {
        "videoCodecs": ["H.264", "VP8", "VP9"],
        "audioCodecs": ["Opus", "G.722"],
        "maxResolution": "1080p",
        "maxFrameRate": 30,
        "maxBitrate": 2500,
        "supportsAIC": True,
        "supportsSimulcast": True,
    }
    assert written["qosMetrics"] == {
        "source": "own-leg",
        "timestamp": 1697520000000,
        "packetLossPercent": 2.5,
        "jitterMs": 15.0,
        "rttMs": 45,
        "bandwidthKbps": 2000,
        "mosScore": 4.1,
    }


def test_a_newer_writer_may_add_fields_at_any_depth() -> None:
    data = {
        "schema": 1,
        "kind": "participant",
        "participantId": "p",
        "side": "jitsi",
        "version": {"incarnation": 5, "number": 1, "epoch": 3},
        "mood": {"deep": [1, 2, {"deeper": None}]},
        "mediaCapabilities": {"videoCodecs": ["VP8"], "maxDepth": 7},
    }
    assert PARTICIPANT.decode(json.dumps(data).encode()) == ParticipantMetadata(
        "p", Side.JITSI, Version(5, 1), media_capabilities=MediaCapabilities(("VP8",))
    )


@pytest.mark.parametrize(
    ("data", "fault"),
    [
        (b"", Fault.NOT_JSON),
        (b"\xff\xfe", Fault.NOT_JSON),
        (b'{"schema":1', Fault.NOT_JSON),
        (b"[" * 60_000, Fault.NOT_JSON),
        (b'{"schema":1,"kind":"media","conferenceId":"x","compressionRatio":NaN}', Fault.NOT_JSON),
        (b" " * (MAX_DOCUMENT_BYTES + 1), Fault.TOO_LARGE),
        (b"null", Fault.FOREIGN),
        (b"[]", Fault.FOREIGN),
        (b'"media"', Fault.FOREIGN),
        (b'{"conferenceId":"x"}', Fault.FOREIGN),
        (b'{"schema":true,"kind":"media","conferenceId":"x"}', Fault.FOREIGN),
        (b'{"schema":0,"kind":"media","conferenceId":"x"}', Fault.FOREIGN),
        (b'{"schema":1,"kind":"room","conferenceId":"x"}', Fault.FOREIGN),
        (b'{"schema":2,"kind":"media","conferenceId":"x"}', Fault.NEWER),
        (b'{"schema":1,"kind":"media"}', Fault.INVALID),
        (b'{"schema":1,"kind":"media","conferenceId":5}', Fault.INVALID),
        (b'{"schema":1,"kind":"media","conference_id":"x"}', Fault.INVALID),
        (b'{"schema":1,"kind":"media","conferenceId":"x","activeStreams":"5"}', Fault.INVALID),
        (b'{"schema":1,"kind":"media","conferenceId":"x","activeStreams":-1}', Fault.INVALID),
        (b'{"schema":1,"kind":"media","conferenceId":"x","qualityLevel":"8K"}', Fault.INVALID),
        (b'{"schema":1,"kind":"media","conferenceId":"x","compressionRatio":1e999}', Fault.INVALID),
    ],
)
def test_what_is_no_document_is_told_apart(data: bytes, fault: Fault) -> None:
    with pytest.raises(DocumentError) as caught:
        MEDIA.decode(data)
    assert caught.value.fault is fault
    assert caught.value.kind == "media"


def test_an_error_says_where_and_never_what() -> None:
    data = b'{"schema":1,"kind":"identity","askedAt":5,"identity":{"auraId":"aura:1","email":["boss@example.com"]}}'
    with pytest.raises(DocumentError, match=r"identity document invalid: identity\.email string_type") as caught:
        IDENTITY.decode(data)
    assert "boss" not in str(caught.value)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)


@given(st.sampled_from(ALL), st.binary(max_size=200) | st.text(st.characters(), max_size=200))
def test_anything_is_read_or_refused(document: Document[Any], data: bytes | str) -> None:
    read_or_refuse(document, data)


@given(VALUES, st.data())
def test_a_document_with_anything_in_a_field_is_read_or_refused(
    pair: tuple[Document[Any], Any], data: st.DataObject
) -> None:
    document, value = pair
    written = json.loads(document.encode(value))
    written[data.draw(st.sampled_from(sorted(written)))] = data.draw(JSON)
    read_or_refuse(document, json.dumps(written).encode())


@given(VALUES, st.integers(0, 5000), st.integers(0, 255))
def test_a_document_with_a_broken_byte_is_read_or_refused(pair: tuple[Document[Any], Any], at: int, byte: int) -> None:
    document, value = pair
    data = bytearray(document.encode(value).encode())
    data[at % len(data)] = byte
    read_or_refuse(document, bytes(data))
    read_or_refuse(document, bytes(data[: at % len(data)]))


def read_or_refuse(document: Document[Any], data: bytes | str) -> None:
    """Whatever is read can be written again."""
    try:
        value = document.decode(data)
    except DocumentError:
        return
    assert document.decode(document.encode(value)) == value


@pytest.mark.parametrize(
    "value",
    [
        MediaState("\ud800"),
        MediaState("x" * 257),
        MediaState("x", compression_ratio=1.5),
        MediaState("x", compression_ratio=float("nan")),
        MediaState("x", active_streams=-1),
        MediaState(5),  # type: ignore[arg-type]
    ],
)
def test_what_could_not_be_read_is_not_written(value: MediaState) -> None:
    with pytest.raises(DocumentError):
        MEDIA.encode(value)


def test_a_document_that_is_too_large_is_not_written() -> None:
    tracks = tuple(Track("t" * 2000, TrackSource.OTHER) for _ in range(64))
    with pytest.raises(DocumentError, match="participant document too large"):
        PARTICIPANT.encode(ParticipantMetadata("p", Side.JITSI, Version(1), tracks=tracks))


def test_every_kind_is_another() -> None:
    assert len({document.kind for document in ALL}) == len(ALL)
    assert documents.SCHEMA == 1
