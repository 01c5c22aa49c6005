"""The process's beginning: what it says about settings it cannot use."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from auralink_aicore.__main__ import EX_CONFIG, configured, read_tls
from auralink_aicore.settings import SettingsError


def test_bad_settings_are_told_all_at_once_a_line_each_without_a_traceback(tmp_path: Path) -> None:
    bad = {"AICORE_LISTEN": "nowhere", "AICORE_WORKERS": "0", "AICORE_TLS_DIR": str(tmp_path / "none")}
    command = [sys.executable, "-m", "auralink_aicore"]
    done = subprocess.run(command, env={**os.environ, **bad}, capture_output=True, text=True, timeout=60)
    assert done.returncode == EX_CONFIG
    lines = [json.loads(line) for line in done.stderr.splitlines()]
    assert [line["message"].split()[2].rstrip(":") for line in lines] == [
        "AICORE_LISTEN",
        "AICORE_WORKERS",
        "AICORE_TLS_DIR",
        "AICORE_TLS_DIR",
    ]
    assert all("exception" not in line for line in lines)
    assert done.stdout == ""


def test_without_a_ca_clients_need_no_certificate(tmp_path: Path) -> None:
    (tmp_path / "tls.crt").write_bytes(b"c")
    (tmp_path / "tls.key").write_bytes(b"k")
    assert configured({"AICORE_TLS_DIR": str(tmp_path)}, 1).tls == read_tls(tmp_path)
    assert read_tls(tmp_path).ca is None
    (tmp_path / "ca.crt").write_bytes(b"a")
    assert read_tls(tmp_path).ca == b"a"


def test_a_ca_that_is_there_but_cannot_be_read_is_a_mistake(tmp_path: Path) -> None:
    """Taken for none, anybody would be let in."""
    (tmp_path / "tls.crt").write_bytes(b"c")
    (tmp_path / "tls.key").write_bytes(b"k")
    (tmp_path / "ca.crt").mkdir()
    with pytest.raises(SettingsError, match=r"ca\.crt"):
        read_tls(tmp_path)
