"""What one video stream does whatever happens: a receiver that notices garbage looks on."""

from auralink_dataplane.media.frames import Advice, Disposition
from auralink_dataplane.media.pipeline import Failure, Limits, Refusal, State
from auralink_dataplane.media.pipeline import decisions as act
from auralink_dataplane.policy import Compression
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.unit.dataplane.pipeline.rig import FRAME_S, Core, Rig, broken_chains

ACTIONS = st.sampled_from(
    ["well"] * 12  # else two sessions are hardly ever sound at a time
    + ["well, key"] * 6
    + ["frame"] * 8
    + ["answer"] * 8
    + [
        "key", "key", "open", "open", "probe", "refuse", "fail", "skip", "unchanged",
        "unchanged, then skip", "bad unchanged", "bad order",
        "answer failed", "advise native", "advise compress", "late", "long", "off", "on", "want key", "available",
        "drain", "shed", "overflow",
    ]
    + ["answer beside"] * 8
    + [
        "open beside", "open beside", "probe beside", "refuse beside", "fail beside", "drain beside", "shed beside",
        "bad beside", "bad order beside", "answer failed beside", "need key", "need key beside", "renew",
        "forget to begin with a key",
        "alone", "in company", "standby off", "standby on",
    ]
)  # fmt: skip


def act_beside(rig: Rig, action: str) -> None:
    """On the standby, if there is one."""
    session = rig.pipeline.standby.session
    if session is None:
        return
    now, waiting = rig.now, rig.second.waiting
    match action.removesuffix(" beside"):
        case "answer" if waiting:
            rig.answer(standby=True)
        case "bad" if waiting:
            rig.answer(Disposition.COMPRESSED, standby=True)
        case "bad order" if waiting:
            waiting.rotate(-1)
            rig.answer(standby=True)
        case "answer failed" if waiting:
            rig.answer(Disposition.FAILED, standby=True)
        case "need key" if waiting:
            rig.answer(standby=True, need_key=True)
        case "open" | "probe":
            rig.opened(probe="probe" in action, standby=True)
        case "refuse":
            rig.run(rig.pipeline.refused(session, Refusal.FULL, now))
        case "fail":
            rig.fail(standby=True)
        case "drain":
            rig.run(rig.pipeline.draining(session, now))
        case "shed":
            rig.run(rig.pipeline.shed(session, now))


def next_is_key(core: Core) -> bool:
    first = core.waiting[0]
    return isinstance(first, act.Send) and first.frame.key


def act_on(rig: Rig, action: str) -> None:  # noqa: C901 - a table
    pipeline, now = rig.pipeline, rig.now
    core = rig.cores.get(pipeline.session)
    waiting = bool(core and core.waiting)
    match action:
        case "well" | "well, key":
            rig.opened()
            if pipeline.standby.live:
                rig.opened(standby=True)
            rig.round(1, key_first=action == "well, key")
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
            while core and core.waiting and core is rig.cores[pipeline.session]:
                rig.answer(Disposition.UNCHANGED if next_is_key(core) else Disposition.SKIPPED)
        case "unchanged" if waiting:
            assert core
            if next_is_key(core):
                rig.answer(Disposition.UNCHANGED)
        case "need key" if waiting:
            rig.answer(Disposition.SKIPPED, need_key=True)
        case "forget to begin with a key" if waiting:
            assert core
            core.ours = True
            rig.answer()
        case "renew":
            rig.run(pipeline.renew(pipeline.session, now))
        case "alone" | "in company":
            rig.endpoints = 1 if action == "alone" else 2
        case "standby off" | "standby on":
            rig.configure(limits=Limits(standby=action == "standby on"))
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
            rig.configure(Compression(mode="Disabled" if action == "off" else "Always"))
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


def look(rig: Rig) -> None:
    """What holds at any time."""
    assert not rig.source.garbage
    assert not broken_chains(rig)
    assert rig.source.illegal_switch == 0
    ids = [one.frame_id for one in rig.source.sent]
    assert ids == sorted(set(ids))
    assert max(rig.answers.values(), default=1) == 1
    assert rig.owed == {entry.frame_id for entry in rig.pipeline._unanswered._entries if entry.owed}
    session, standby = rig.pipeline.session, rig.pipeline.standby.session
    assert standby is None or (standby != session and rig.state() is State.COMPRESS)


@settings(max_examples=200)
@given(st.lists(ACTIONS, max_size=150), st.booleans())
def test_no_receiver_ever_gets_a_frame_on_foreign_references(actions: list[str], standby: bool) -> None:
    """Neither a native one on ours, nor ours on native ones, nor one session's on another's; the packet core never has
    to refuse one, each frame that it waits with is answered once, and nothing is stuck once the AI Cores behave."""
    rig = Rig(limits=Limits(standby=standby), endpoints=2)
    rig.frame(key=True)
    for action in actions:
        if action.endswith("beside"):
            act_beside(rig, action)
        else:
            act_on(rig, action)
        look(rig)
    rig.endpoints = 2
    rig.configure(Compression(mode="Always"), Limits(standby=standby))
    for _ in range(100):  # keys every 10 frames, sessions open at once, answers come at once, advice is to compress
        rig.wait(1)
        for index in range(10):
            rig.frame(key=index == 0)
            rig.opened()
            if rig.pipeline.standby.live:
                rig.opened(standby=True)
            while rig.core.waiting:
                rig.answer(advice=Advice.COMPRESS)
            rig.answer_all()
    look(rig)
    assert rig.state() is State.COMPRESS
    assert not rig.owed
    assert rig.pipeline.standby.ready == standby
    assert all(one.ours for one in rig.source.sent[-10:])
