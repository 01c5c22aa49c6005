"""What one video stream does whatever happens: a receiver that notices garbage looks on."""

from auralink_dataplane.media.frames import Advice, Disposition
from auralink_dataplane.media.pipeline import Failure, Limits, Refusal, State
from auralink_dataplane.policy import Compression
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.unit.dataplane.pipeline.rig import FRAME_S, Rig

ACTIONS = st.sampled_from(
    ["frame"] * 8
    + ["answer"] * 8
    + [
        "key", "key", "open", "open", "probe", "refuse", "fail", "skip", "unchanged",
        "unchanged, then skip", "bad unchanged", "bad order",
        "answer failed", "advise native", "advise compress", "late", "long", "off", "on", "want key", "available",
        "drain", "shed", "overflow",
    ]
)  # fmt: skip


def act_on(rig: Rig, action: str) -> None:  # noqa: C901 - a table
    pipeline, now = rig.pipeline, rig.now
    core = rig.cores.get(pipeline.session)
    waiting = bool(core and core.waiting)
    match action:
        case "frame" | "key":
            rig.frame(key=action == "key")
            rig.wait(FRAME_S)
        case "answer" if waiting:
            rig.answer()
        case "skip" if waiting:
            rig.answer(Disposition.SKIPPED)
        case "unchanged, then skip":
            rig.frame(key=True)
            rig.frame()
            while core and core.waiting:
                rig.answer(Disposition.UNCHANGED if core.waiting[0].frame.key else Disposition.SKIPPED)
        case "unchanged" if waiting:
            assert core
            if core.waiting[0].frame.key:
                rig.answer(Disposition.UNCHANGED)
        case "bad unchanged" if waiting:
            rig.answer(Disposition.UNCHANGED)
        case "bad order" if waiting:
            assert core
            core.waiting.rotate(-1)
            rig.answer()
        case "answer failed" if waiting:
            rig.answer(Disposition.FAILED)
        case "advise native" if waiting:
            rig.answer(advice=Advice.NATIVE)
        case "advise compress" if waiting:
            rig.answer(advice=Advice.COMPRESS)
        case "open" | "probe":
            rig.opened(probe=action == "probe")
        case "refuse":
            rig.run(pipeline.refused(pipeline.session, Refusal.FULL, now))
        case "fail":
            rig.run(pipeline.failed(pipeline.session, Failure.BROKEN, now))
        case "late":
            rig.wait(0.15)
        case "long":
            rig.wait(3)
        case "off" | "on":
            policy = Compression(mode="Disabled" if action == "off" else "Always")
            rig.run(pipeline.configure(policy, Limits(), now))
        case "want key":
            rig.run(pipeline.key_wanted(now))
        case "available":
            rig.run(pipeline.available(now))
        case "drain":
            rig.run(pipeline.draining(pipeline.session, now))
        case "shed":
            rig.run(pipeline.shed(pipeline.session, now))
        case "overflow":
            for _ in range(17):
                rig.frame()


@settings(max_examples=200)
@given(st.lists(ACTIONS, max_size=120))
def test_no_receiver_ever_gets_a_frame_on_foreign_references(actions: list[str]) -> None:
    """And the packet core never has to refuse one, and nothing is stuck once the AI Core behaves."""
    rig = Rig()
    rig.frame(key=True)
    for action in actions:
        act_on(rig, action)
        assert not rig.source.garbage
    assert rig.source.illegal_switch == 0
    rig.run(rig.pipeline.configure(Compression(mode="Always"), Limits(), rig.now))
    for _ in range(100):  # keys every 10 frames, sessions open at once, answers come at once, advice is to compress
        rig.wait(1)
        for index in range(10):
            rig.frame(key=index == 0)
            rig.opened()
            while rig.core.waiting:
                rig.answer(advice=Advice.COMPRESS)
    assert rig.state() is State.COMPRESS
    assert not rig.source.garbage
    assert rig.source.illegal_switch == 0
    assert all(one.ours for one in rig.source.sent[-10:])
