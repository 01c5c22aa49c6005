"""The process's beginning: what it says about settings it cannot use."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from auralink_aicore.__main__ import EX_CONFIG, configured, newer_model, read_tls
from auralink_aicore.model import packaged
from auralink_aicore.settings import SettingsError

from tests.unit.aicore import models


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


class TestModel:
    def test_the_packaged_one_is_taken_where_none_is_named(self) -> None:
        assert configured({}, 1).model is packaged()

    def test_of_a_folder_the_newest_version_is_taken(self, tmp_path: Path) -> None:
        for name in ("auralink-q-9.0.0.json", "auralink-q-10.0.0.json", "notes.json"):
            (tmp_path / name).write_bytes(models.made().data)
        assert configured({"AICORE_MODEL": str(tmp_path)}, 1).model.id == "auralink-q-10.0.0"

    @pytest.mark.parametrize(
        ("name", "data", "reason"),
        [
            ("none", None, "No such file"),
            ("model.json", b"{}", "it is called"),
            ("auralink-q-1.0.0.json", b"{}\n", "schema"),
            ("", None, "has no auralink-q"),
        ],
    )
    def test_one_that_cannot_be_used_is_a_mistake_with_its_reason(
        self, tmp_path: Path, name: str, data: bytes | None, reason: str
    ) -> None:
        if data is not None:
            (tmp_path / name).write_bytes(data)
        with pytest.raises(SettingsError, match=f"AICORE_MODEL: .*{reason}"):
            configured({"AICORE_MODEL": str(tmp_path / name)}, 1)

    def test_looking_again_finds_the_same_a_newer_or_a_forged_one(self, tmp_path: Path) -> None:
        old = models.made()
        (tmp_path / "auralink-q-9.0.0.json").write_bytes(old.data)
        assert newer_model(tmp_path, old) is None
        (tmp_path / "auralink-q-9.0.0.json").write_bytes(models.made(loss_above=7.0).data)
        with pytest.raises(SettingsError, match="not what it was"):
            newer_model(tmp_path, old)
        (tmp_path / "auralink-q-9.0.1.json").write_bytes(old.data)
        found = newer_model(tmp_path, old)
        assert found is not None
        assert found.id == "auralink-q-9.0.1"
