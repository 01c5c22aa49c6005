"""How a pod starts, and how it refuses to."""

import json
import logging
import socket
from pathlib import Path

import pytest
from auralink_dataplane.__main__ import EX_BUG, EX_CONFIG, EX_UNAVAILABLE, JsonLines, load, main
from auralink_dataplane.app import App


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


@pytest.mark.parametrize("text", ["[1, 2]", "auralink { features = 3 }"])
def test_a_file_of_the_wrong_shape_exits_78_whatever_the_environment(
    text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("ENABLE_AIC", "true")
    path = tmp_path / "auralink.conf"
    path.write_text(text)
    assert main(["--config", str(path)]) == EX_CONFIG
    assert "Traceback" not in capsys.readouterr().err


def test_a_file_may_begin_with_a_byte_order_mark(tmp_path: Path) -> None:
    path = tmp_path / "auralink.conf"
    path.write_text("auralink { service { bridge_id = brücke } }", encoding="utf-8-sig")
    assert load(path).pod.bridge_id == "brücke"


def test_a_missing_file_exits_78(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--config", str(tmp_path / "none.conf")]) == EX_CONFIG
    assert "name the file with --config" in capsys.readouterr().err


def test_an_incomplete_cluster_environment_exits_78(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CONFIG_MAP", "c")
    assert main([]) == EX_CONFIG


@pytest.fixture
def free_ports(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    with socket.socket() as one, socket.socket() as other:
        ports = []
        for name, listener in (("HTTP_PORT", one), ("METRICS_PORT", other)):
            listener.bind(("", 0))
            ports.append(listener.getsockname()[1])
            monkeypatch.setenv(name, str(ports[-1]))
    return ports


@pytest.fixture
def minimal(tmp_path: Path) -> str:
    path = tmp_path / "auralink.conf"
    path.write_text("auralink { service { bridge_id = b } }")
    return str(path)


@pytest.mark.parametrize("bug", [RuntimeError("engine gone"), OSError("no such file"), None], ids=repr)
@pytest.mark.usefixtures("free_ports")
def test_a_pod_whose_task_ends_tells_so_and_exits_1(
    bug: Exception | None, minimal: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Also with an error that at the start would mean a taken port, and also without any."""

    async def ends(_: App) -> None:
        if bug:
            raise bug

    monkeypatch.setattr(App, "_keep_looking", ends)
    assert main(["--config", minimal]) == EX_BUG == 1
    [record] = [one for one in caplog.records if one.levelno == logging.CRITICAL]
    assert record.exc_info
    assert record.exc_info[1]
    assert record.exc_info[1].__cause__ is bug


def test_a_taken_port_exits_69(minimal: str, free_ports: list[int]) -> None:
    with socket.socket() as taken:
        taken.bind(("", free_ports[0]))
        taken.listen()
        assert main(["--config", minimal]) == EX_UNAVAILABLE == 69


def test_log_lines_are_json_with_their_fields() -> None:
    record = logging.makeLogRecord({"name": "x", "levelname": "INFO", "msg": "stream %s", "args": ("up",), "room": "r"})
    line = json.loads(JsonLines({"pod": "p"}).format(record))
    assert {name: line[name] for name in ("level", "message", "pod", "room")} == {
        "level": "info", "message": "stream up", "pod": "p", "room": "r",
    }  # fmt: skip
