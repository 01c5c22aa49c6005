"""Whatever a sender and a client do, what the receivers get decodes, and modes change places only at keys."""

import math
from enum import Enum, auto

import pytest
from auralink_aicore.codecs import Limits
from auralink_aicore.controller import Policy
from auralink_aicore.transcoder import Disposition, Frame, Mode, Session, Transcoder
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.unit.aicore import clips


class Event(Enum):
    """What happens at one frame. Damage comes only while we compress: natively, it is the sender's affair."""

    NOTHING = auto()
    TRUNCATED = auto()
    LOST = auto()
    LATE = auto()
    FORCE_KEY = auto()
    PROMOTE = auto()
    WANT_SHADOW = auto()  # granted at the next native key, as the contract has it
    WANT_COMPRESS = auto()
    OTHER_SIZE = auto()  # granted at the next native key, at most once a second


# Every sender, and H.264's two ways to code its coefficients.
SENDERS = [
    (clips.H264, "-profile:v baseline"),
    (clips.H264, "-profile:v high"),
    *((sender, "") for sender in clips.SENDERS if sender is not clips.H264),
]
EVENTS = st.lists(st.sampled_from([Event.NOTHING] * 8 + list(Event)), min_size=30, max_size=70)


@pytest.mark.parametrize(("sender", "arguments"), SENDERS, ids=lambda one: str(one).strip("-"))
@settings(max_examples=25, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
@given(events=EVENTS, always=st.booleans())
def test_what_receivers_get_always_decodes(
    sender: clips.Sender, arguments: str, events: list[Event], always: bool
) -> None:
    streams = [sender.send(size=size, frames=70, arguments=f"{arguments} -g 10") for size in ("160x128", "128x160")]
    now = 0.0
    policy = Policy(always=always, min_savings=0.0)
    transcoder = Transcoder(Session(sender.codec, policy, Limits(), screen=False), lambda: now)
    mode, wanted, which, other, resized_s = Mode.COMPRESS, Mode.COMPRESS, 0, False, -1.0
    out: list[bytes] = []
    last: Disposition | None = None
    for number, event in enumerate(events):
        now = number / 30
        at_key = sender.is_key(streams[0][number])
        if event in (Event.WANT_SHADOW, Event.WANT_COMPRESS):
            wanted = Mode.SHADOW if event is Event.WANT_SHADOW else Mode.COMPRESS
        other = other or event is Event.OTHER_SIZE
        if at_key and other and now - resized_s > 1:
            which, other, resized_s = 1 - which, False, now
        if wanted is Mode.COMPRESS or at_key:
            mode = wanted
        if event is Event.FORCE_KEY:
            transcoder.force_key()
        if event is Event.LOST and mode is Mode.COMPRESS:
            continue
        unit = streams[which][number]
        if event is Event.TRUNCATED and mode is Mode.COMPRESS:
            unit = unit[: len(unit) // 2]
        deadline_s = now - 1 if event is Event.LATE else math.inf
        result = transcoder.receive(Frame(number, unit, at_key, mode, now, deadline_s))
        if result.disposition is Disposition.FAILED:
            # The latter where damage held back the news of a change until shortly before the next one.
            assert "bad keys" in result.reason or "more than once a second" in result.reason
            return
        if mode is Mode.SHADOW:
            assert result.disposition is Disposition.UNCHANGED
            out.append(unit)
            last = None  # the client switched; the core's rules start anew
        elif result.disposition is Disposition.COMPRESSED:
            assert last is Disposition.COMPRESSED or result.key
            assert result.key == sender.is_key(result.payload)
            out.append(result.payload)
            last = result.disposition
        elif result.disposition is Disposition.UNCHANGED:
            assert last is not Disposition.COMPRESSED or at_key
            out.append(unit)
            last = result.disposition
        if event is Event.PROMOTE and mode is Mode.COMPRESS:
            promoted = transcoder.promote()
            if promoted.disposition is Disposition.COMPRESSED:
                assert promoted.key
                out.append(promoted.payload)
                last = promoted.disposition
    transcoder.close()
    check(sender, out)


def check(sender: clips.Sender, units: list[bytes]) -> None:
    """Every unit gives exactly one undamaged picture."""
    pictures = sender.decode(units)
    assert len(pictures) == len(units)
    assert not any(picture.is_corrupt for picture in pictures)
