"""How a pod starts, and how it refuses to."""

import json
import logging
from pathlib import Path

import pytest
from auralink_dataplane.__main__ import EX_CONFIG, JsonLines, main


@pytest.fixture(autouse=True)
def _bare_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("CONFIG_MAP", "BRIDGE_ID", "ENABLE_SIP"):
        monkeypatch.delenv(name, raising=False)


def test_a_broken_file_is_told_line_by_line_and_exits_78(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "auralink.conf"
    path.write_text("auralink { service { bridge_id = ${BRIDGE_ID} }, redis { port = 0 } }")
    assert main(["--config", str(path)]) == EX_CONFIG == 78
    errors = capsys.readouterr().err.splitlines()
    assert [error.split(":")[0] for error in errors] == ["line 1", "auralink.redis.host", "auralink.redis.port"]


def test_a_missing_file_exits_78(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--config", str(tmp_path / "none.conf")]) == EX_CONFIG
    assert "name the file with --config" in capsys.readouterr().err


def test_an_incomplete_cluster_environment_exits_78(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CONFIG_MAP", "c")
    assert main([]) == EX_CONFIG


def test_log_lines_are_json_with_their_fields() -> None:
    record = logging.makeLogRecord({"name": "x", "levelname": "INFO", "msg": "stream %s", "args": ("up",), "room": "r"})
    line = json.loads(JsonLines({"pod": "p"}).format(record))
    assert {name: line[name] for name in ("level", "message", "pod", "room")} == {
        "level": "info", "message": "stream up", "pod": "p", "room": "r",
    }  # fmt: skip
