import pytest
from auralink_operator.__main__ import parse
from auralink_operator.settings import SettingsError, from_env

GOOD = {"AURALINK_DATA_PLANE_IMAGE": "data-plane:1", "AURALINK_AI_CORE_ADDRESS": "ai-core.ns.svc:50051"}


def test_defaults_are_those_of_a_whole_cluster() -> None:
    settings = from_env(GOOD)
    assert settings.namespaces == ()
    assert settings.health_port == 8081
    assert settings.workers == 64


def test_every_wrong_setting_is_named_at_once() -> None:
    wrong = {
        "AURALINK_AI_CORE_ADDRESS": "nowhere",
        "AURALINK_NAMESPACES": "ok,Not_Ok",
        "AURALINK_HEALTH_PORT": "0",
        "AURALINK_WORKERS": "many",
        "AURALINK_LOG_LEVEL": "loud",
        "AURALINK_SHARD": "Not A Label",
        "AURALINK_INHERIT_LABELS": "team,auralink.io/bridge",
        "AURALINK_LEADER_ELECT": "yes",
        "AURALINK_MONITOR_LABELS": "release",
    }
    with pytest.raises(SettingsError) as error:
        from_env(wrong)
    lines = str(error.value).splitlines()
    flags = {"--data-plane-image", "--ai-core-address", "--namespace", "--health-port", "--log-level", "--workers"}
    assert {line.split()[0] for line in lines} == flags | {
        "--shard",
        "--inherit-label",
        "--leader-elect",
        "--monitor-label",
    }
    assert len(lines) == 10


def test_flags_win_over_variables_and_namespaces_repeat() -> None:
    arguments = ["run", "--ai-core-address", "[::1]:1", "--namespace", "b", "--namespace", "a"]
    settings = parse(arguments, GOOD)
    assert settings.ai_core_address == "[::1]:1"
    assert settings.data_plane_image == "data-plane:1"
    assert settings.namespaces == ("a", "b")


def test_wrong_settings_end_with_the_code_for_configuration(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        parse(["run"], {})
    assert end.value.code == 78
    assert "--data-plane-image" in capsys.readouterr().err


def test_help_lists_every_flag_with_its_variable(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        parse(["run", "--help"], {})
    assert end.value.code == 0
    said = capsys.readouterr().out
    for word in ("--data-plane-image", "AURALINK_DATA_PLANE_IMAGE", "--namespace", "AURALINK_NAMESPACES"):
        assert word in said


@pytest.mark.parametrize("address", ["ai-core", "ai-core:0", "ai-core:65536", "http://ai-core:1"])
def test_an_address_must_have_a_port_that_exists(address: str) -> None:
    with pytest.raises(SettingsError, match="host:port with a port from 1 to 65535"):
        from_env({**GOOD, "AURALINK_AI_CORE_ADDRESS": address})


def test_a_shard_keeps_its_own_bridges_and_has_a_leader_of_its_own() -> None:
    whole, shard = from_env(GOOD), from_env({**GOOD, "AURALINK_SHARD": "eu"})
    assert (whole.shard_selector, whole.lease) == ("!auralink.io/shard", "auralink-operator")
    assert (shard.shard_selector, shard.lease) == ("auralink.io/shard=eu", "auralink-operator-eu")


def test_an_election_needs_the_namespace_of_its_lease() -> None:
    with pytest.raises(SettingsError, match="--lease-namespace"):
        from_env({**GOOD, "AURALINK_LEADER_ELECT": "true"})
    assert parse(["run", "--leader-elect", "--lease-namespace=ns"], GOOD).leader_elect
    assert not parse(["run", "--leader-elect=false"], {**GOOD, "AURALINK_LEADER_ELECT": "true"}).leader_elect


def test_labels_to_inherit_repeat_and_are_sorted() -> None:
    assert parse(["run", "--inherit-label=team", "--inherit-label", "a.b/c"], GOOD).inherit_labels == ("a.b/c", "team")


def test_labels_of_monitors_are_pairs_and_sorted() -> None:
    given = ["run", "--monitor-label=release=prometheus", "--monitor-label", "a.b/c="]
    assert parse(given, GOOD).monitor_labels == (("a.b/c", ""), ("release", "prometheus"))


def test_all_that_is_wrong_with_labels_of_monitors_is_said_at_once() -> None:
    wrong = "release,a b=c,d=e f,auralink.io/bridge=b,twice=1,twice=2"
    with pytest.raises(SettingsError) as error:
        from_env({**GOOD, "AURALINK_MONITOR_LABELS": wrong})
    for word in ("'release'", "'a b=c'", "'d=e f'", "'auralink.io/bridge'", "'twice' stands there twice"):
        assert word in str(error.value)
