"""Records between front and worker survive any cutting of the byte stream."""

import math

import pytest
from auralink_aicore.asking import Ask, AskReason
from auralink_aicore.codecs import Codec, Limits
from auralink_aicore.controller import Policy
from auralink_aicore.model import packaged
from auralink_aicore.transcoder import Advice, Disposition, Frame, Mode, Report, Result, Session
from auralink_aicore.worker import wire
from auralink_aicore.worker.wire import Kind, Opening, Timed, Unpacker
from hypothesis import given
from hypothesis import strategies as st


@given(st.lists(st.tuples(st.sampled_from(Kind), st.integers(0, 2**32 - 1), st.binary(max_size=300))), st.data())
def test_records_come_out_as_they_went_in_however_they_are_cut(
    records: list[tuple[Kind, int, bytes]], data: st.DataObject
) -> None:
    stream = b"".join(wire.pack(*record) for record in records)
    unpacker, out, at = Unpacker(), [], 0
    while at < len(stream):
        size = data.draw(st.integers(1, 400))
        out += list(unpacker.feed(stream[at : at + size]))
        at += size
    assert out == records


def test_an_absurd_length_is_refused() -> None:
    with pytest.raises(ValueError, match="record of"):
        list(Unpacker().feed(b"\xff" * 16))


def test_bodies_come_out_as_they_went_in() -> None:
    session = Session(Codec.H264, Policy(target_savings=0.3, always=True), Limits(2, 31), screen=True)
    opening = Opening(session, host_factor=1.7, reports=True)
    assert wire.unpack_opening(wire.pack_opening(opening)) == opening
    assert wire.unpack_policy(wire.pack_policy(session.policy)) == session.policy
    frame = Frame(2**63, b"\0frame", True, Mode.SHADOW, 12.5, math.inf)
    assert wire.unpack_frame(wire.frame_head(frame) + frame.payload) == frame
    result = Result(
        frame_id=2**63,
        disposition=Disposition.SKIPPED,
        payload=b"\0\0\1payload",
        key=True,
        ratio=400,
        quality=970,
        model_hash=2**32 - 1,
        flags=0x4A,
        advice=Advice.NATIVE,
        reason="Grün",
        need_key=True,
        ask=Ask(2**32 - 1, AskReason.PATH),
        psnr_db=41.25,
    )
    timed = Timed(result, encoder_us=5500, queue_us=120, pixels=1280 * 720, refused=True)
    assert wire.unpack_result(wire.result_head(timed) + result.payload) == timed
    assert wire.unpack_ready(wire.pack_ready(2.5)) == 2.5
    assert wire.unpack_share(wire.pack_share(0.35)) == 0.35
    assert wire.unpack_share(wire.pack_share(None)) is None
    model = wire.unpack_model(wire.pack_model(packaged()))
    assert (model.id, model.data) == (packaged().id, packaged().data)
    report = Report(3e5, 0.4, 3.0, (12.0, 11.5, 11.0), (0.5, 1.0, 2.0))
    assert wire.unpack_report(wire.pack_report(report)) == report
