"""What must hold of the repository as a whole, and would otherwise be found out late."""

import json
import re
import tomllib
from pathlib import Path

import auralink_dataplane
import yaml
from auralink_dataplane.settings import from_file

ROOT = Path(__file__).parents[2]
VERSION = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]


def test_the_operator_folder_is_no_package() -> None:
    """With an `__init__.py` it would hide the standard library's `operator` from everything started at the root."""
    assert not (ROOT / "operator" / "__init__.py").exists()


def test_all_parts_carry_one_version() -> None:
    chart = yaml.safe_load((ROOT / "charts" / "auralink" / "Chart.yaml").read_text())
    crate = tomllib.loads((ROOT / "dataplane" / "native" / "Cargo.toml").read_text())["package"]
    assert {chart["version"], chart["appVersion"], crate["version"], auralink_dataplane.__version__} == {VERSION}


def test_examples_name_kinds_that_exist() -> None:
    kinds = {yaml.safe_load(path.read_text())["spec"]["names"]["kind"] for path in (ROOT / "crds").glob("*.yaml")}
    for example in (ROOT / "examples").glob("**/*.yaml"):
        documents = [item for item in yaml.safe_load_all(example.read_text()) if item and "apiVersion" in item]
        ours = {item["kind"] for item in documents if item["apiVersion"].startswith("auralink.io/")}
        assert ours <= kinds, example.name


def test_the_chart_ships_the_crds_that_are_committed() -> None:
    """One for one: a CRD that `crds/` has and the chart lacks would never reach a cluster."""
    assert {path.name for path in (ROOT / "crds").glob("*.yaml")} == {
        path.name for path in (ROOT / "charts" / "auralink" / "templates" / "crds").glob("*.yaml")
    }


def test_vectors_shared_by_both_sides_are_not_empty() -> None:
    for vectors in (ROOT / "tests" / "unit" / "vectors").glob("*.json"):
        assert json.loads(vectors.read_text()), vectors.name


def test_every_path_that_the_pages_name_exists() -> None:
    for page in ("ARCHITECTURE.md", "README.md", "CONTRIBUTING.md"):
        named = re.findall(r"`([A-Za-z_][\w.-]*/[\w./-]*)`", (ROOT / page).read_text())
        folders = tuple(f"{path.name}/" for path in ROOT.iterdir() if path.is_dir())
        missing = [path for path in named if path.startswith(folders) and not (ROOT / path).exists()]
        built = [path for path in missing if path.startswith("build/")]
        assert missing == built, page


def test_the_example_configuration_loads() -> None:
    settings = from_file((ROOT / "examples" / "auralink.conf").read_text(), {})
    assert settings.config is not None
    assert [leg.name for leg in settings.config.bridge.rooms[0].legs] == ["studio", "audience"]
