import json
from pathlib import Path

import pytest

from hack import demo
from hack.lab import kube, report
from hack.lab.measure import Crossing, Extension, Run, SeenFrame
from hack.lab.report import Row


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


MEASURED = [Row("apply_to_ready", "from kubectl apply to Ready", 9.5, "s", "< 60", True)]


def run(
    monkeypatch: pytest.MonkeyPatch, folder: Path, ending: BaseException | None, *options: str
) -> tuple[int, report.Report]:
    """The demo with one row measured before it ends like this, where an earlier run left its report."""
    written = folder / "report.json"
    report.write(written, report.Report({"content": "an earlier run"}, []))

    def show(account: demo.Account, work: Path) -> None:
        account.rows += MEASURED
        if ending is not None:
            raise ending

    def finish(scene: demo.Scene, *, keep: bool) -> None:
        """Nothing was started."""

    monkeypatch.setattr(demo, "REPORT", written)
    monkeypatch.setattr(demo, "show", show)
    monkeypatch.setattr(demo, "finish", finish)
    code = demo.main(options)
    return code, report.read(written)


@pytest.mark.parametrize(
    ("ending", "code"),
    [
        (demo.ClaimError("no video reached the receiver"), 1),
        (kube.NotInTime("no video reached the receiver"), 1),
        (KeyboardInterrupt(), 130),
    ],
)
def test_failed_demo_reports_what_it_measured_and_why_it_ended(
    ending: BaseException, code: int, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    ended, made = run(monkeypatch, tmp_path, ending)
    assert ended == code
    assert list(made.rows[:-1]) == MEASURED
    assert made.rows[-1].met is False
    assert made.rows[-1].note == (str(ending) or "interrupted")
    assert made.conditions["content"] != "an earlier run"


def test_failed_demo_prints_its_report_as_json_too(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run(monkeypatch, tmp_path, demo.ClaimError("no video reached the receiver"), "--json")
    assert json.loads(capsys.readouterr().out) == json.loads((tmp_path / "report.json").read_text())


def test_demo_that_came_to_its_end_reports_its_measurements_alone(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, made = run(monkeypatch, tmp_path, None)
    assert (code, list(made.rows)) == (0, MEASURED)
    assert "from kubectl apply to Ready" in capsys.readouterr().out


def test_report_of_an_earlier_demo_is_gone_while_this_one_runs(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError):
        run(monkeypatch, tmp_path, ZeroDivisionError())
    assert not (tmp_path / "report.json").exists()
