"""The environment, read once, with all mistakes named."""

from pathlib import Path

import pytest
from auralink_aicore.settings import Evidence, Settings, SettingsError, from_env


@pytest.mark.parametrize(("cores", "workers"), [(1, 1), (2, 2), (3, 3), (4, 3), (16, 15), (200, 64)])
def test_nothing_set_means_a_worker_per_core_and_from_four_cores_up_one_less(cores: int, workers: int) -> None:
    assert from_env({}, cores) == Settings("[::]:50051", 9090, workers, min(cores, 2), None, None)


def test_everything_set_is_taken() -> None:
    env = {"AICORE_LISTEN": "[::]:1", "AICORE_HTTP_PORT": "2", "AICORE_WORKERS": "3", "AICORE_TLS_DIR": "/tls"}
    env |= {"AICORE_MODEL": "/m.json", "AICORE_EVIDENCE": "vmaf", "AICORE_FFMPEG": "/opt/ffmpeg"}
    told = Settings("[::]:1", 2, 3, 2, Path("/tls"), Path("/m.json"), Evidence.VMAF, "/opt/ffmpeg")
    assert from_env(env, 8) == told


def test_all_mistakes_are_named_at_once_with_what_is_allowed() -> None:
    env = {"AICORE_LISTEN": ":50051", "AICORE_HTTP_PORT": "http", "AICORE_WORKERS": "0", "AICORE_EVIDENCE": "all"}
    with pytest.raises(SettingsError) as caught:
        from_env(env, 2)
    assert caught.value.problems == [
        "AICORE_LISTEN is ':50051', expected host:port with a port from 0 to 65535",
        "AICORE_HTTP_PORT is 'http', expected a number from 0 to 65535",
        "AICORE_WORKERS is '0', expected a number from 1 to 64",
        "AICORE_EVIDENCE is 'all', expected off, psnr, vmaf",
    ]


def test_a_number_longer_than_any_is_a_mistake_like_others() -> None:
    with pytest.raises(SettingsError, match="AICORE_WORKERS"):
        from_env({"AICORE_WORKERS": "1" * 5000}, 2)


def test_empty_means_unset() -> None:
    assert from_env({"AICORE_WORKERS": "", "AICORE_TLS_DIR": ""}, 2) == from_env({}, 2)
