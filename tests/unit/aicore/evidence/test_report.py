"""What `/evidence` tells."""

import json

from auralink_aicore.evidence.report import QUALITY_UNKNOWN, ROOMS, Report
from auralink_aicore.evidence.sampling import Score

ROOM = ("ns/b", "demo")


def test_a_room_is_told_by_codec_with_prediction_beside_what_was_measured() -> None:
    report = Report()
    report.opened(ROOM, "VP8")
    report.compressed(ROOM, "VP8", bytes_in=1000, bytes_out=600, psnr_db=40.0, quality=970)
    report.compressed(ROOM, "VP8", bytes_in=1000, bytes_out=500, psnr_db=38.0, quality=QUALITY_UNKNOWN)
    report.compressed(ROOM, "H265", bytes_in=100, bytes_out=90, psnr_db=None, quality=990)
    report.scored(ROOM, "VP8", Score(30, 39.0, 0.98, 96.0), 3.0)
    [room] = json.loads(json.dumps(report.told()))
    assert (room["bridge"], room["room"], sorted(room["codecs"])) == ("ns/b", "demo", ["H265", "VP8"])
    told = room["codecs"]["VP8"]
    assert (told["sessions"], told["frames_compressed"], told["saved_percent"]) == (1, 2, 45.0)
    assert told["psnr_db_of_ours_against_senders"] == {"mean": 39.0, "least": 38.0, "count": 2}
    assert told["predicted_vmaf_loss"] == {"mean": 3.0, "least": 3.0, "count": 1}
    samples = told["samples"]
    assert samples["vmaf_of_ours_against_senders"]["mean"] == 96.0
    assert (samples["predicted_vmaf_loss"]["mean"], samples["measured_vmaf_loss"]) == (3.0, 4.0)
    assert room["codecs"]["H265"]["psnr_db_of_ours_against_senders"] == {"mean": None, "least": None, "count": 0}


def test_without_vmaf_nothing_is_said_of_it() -> None:
    report = Report()
    report.scored(ROOM, "AV1", Score(30, 39.0, 0.98, None), None)
    samples = report.told()[0]["codecs"]["AV1"]["samples"]
    assert (samples["measured_vmaf_loss"], samples["ssim_of_ours_against_senders"]["mean"]) == (None, 0.98)


def test_only_the_last_rooms_are_remembered() -> None:
    report = Report()
    for number in range(ROOMS):
        report.opened(("b", f"room-{number}"), "VP8")
    report.opened(("b", "room-0"), "VP8")
    report.opened(("b", "new"), "VP8")
    names = [room["room"] for room in report.told()]
    assert len(names) == ROOMS
    assert names[:2] == ["new", "room-0"]
    assert "room-1" not in names
