from hack import demo
from hack.lab.measure import Crossing, Extension, Run, SeenFrame


def crossed(bytes_out: int) -> Crossing:
    return Crossing(100, 100, 0, 1000, bytes_out, 0, 100, 0, 0, None)


def frame(flags: int) -> SeenFrame:
    return SeenFrame(0, 0, 0, 0, 1, 100, 24, Extension(1, 0.4, 0.9, 1, flags), complete=True)


def test_a_saving_is_true_within_five_points_and_false_beyond() -> None:
    assert demo.saving(crossed(600), 40).met is True
    assert demo.saving(crossed(640), 40).met is True
    assert demo.saving(crossed(660), 40).met is False
    assert demo.saving(crossed(540), 40).met is False


def test_a_switch_is_shown_as_true_only_if_it_begins_with_a_key() -> None:
    assert demo.keyed("x", "x", Run(False, 5, frame(0x02), frame(0))).met is True
    assert demo.keyed("x", "x", Run(False, 5, frame(0x00), frame(0))).met is False


def test_replaced_and_restarted_pods_are_counted() -> None:
    assert demo.changed({"a": 0, "b": 1}, {"a": 0, "b": 1}) == 0
    assert demo.changed({"a": 0, "b": 1}, {"a": 1, "c": 0}) == 2
