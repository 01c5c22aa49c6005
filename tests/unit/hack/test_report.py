import json
from pathlib import Path

from hack.lab import report

ROWS = [
    report.Row("saved", "bytes saved", 40.26, "%", "40 +- 5", True),
    report.Row("errors", "decode errors", 2, "", "0", False, "the first: corrupt frame"),
    report.Row("vmaf", "VMAF of input", None),
    report.Row("bytes", "bytes in", 12_345_678),
]


def test_a_report_reads_back_from_its_file(tmp_path: Path) -> None:
    made = report.Report(report.conditions("a clip", kbps=4000), ROWS)

    report.write(tmp_path / "deep" / "report.json", made)

    document = json.loads((tmp_path / "deep" / "report.json").read_text())
    assert set(document["rows"][0]) == {"id", "what", "value", "unit", "target", "met", "note"}
    assert {"cores", "content", "date", "versions"} <= set(document["conditions"])
    assert report.read(tmp_path / "deep" / "report.json") == made


def test_the_table_shows_what_was_missed_and_what_was_not_measured() -> None:
    lines = report.table(report.Report(report.conditions("a clip"), ROWS)).splitlines()

    assert any(line.split() == ["bytes", "saved", "40.3", "%", "40", "+-", "5", "yes"] for line in lines)
    assert any(line.endswith("NO") for line in lines)
    assert any("not measured" in line for line in lines)
    assert any("12,345,678" in line for line in lines)
    assert any("the first: corrupt frame" in line for line in lines)
    assert [row.id for row in report.Report({}, ROWS).missed] == ["errors"]
