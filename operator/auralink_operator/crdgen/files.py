"""Every generated file with its content."""

from pathlib import Path
from typing import Any

import yaml

from auralink_operator.crdgen.kinds import crds
from auralink_operator.crdgen.pages import with_tables

_HEAD = "# Written by `make generate` from operator/auralink_operator/models. Do not edit.\n"


class _Dumper(yaml.SafeDumper):
    """Without anchors: the same sub-schema is written again, as a reader of a CRD expects."""

    def ignore_aliases(self, data: Any) -> bool:  # noqa: ARG002 - the name is the library's
        return True


def _yaml(value: Any) -> str:
    return yaml.dump(value, Dumper=_Dumper, sort_keys=False, width=120)


def files(root: Path) -> dict[Path, str]:
    """Plain CRDs for kubectl, the chart's templates, and the pages with their tables put in."""
    found: dict[Path, str] = {}
    for name, crd in crds().items():
        found[root / "crds" / name] = _HEAD + _yaml(crd)
        kept = {**crd, "metadata": {**crd["metadata"], "annotations": {"helm.sh/resource-policy": "keep"}}}
        # Descriptions may hold what Helm takes for its own; as a literal it is none.
        text = _yaml(kept).replace("{{", '{{ "{{" }}')
        found[root / "charts/auralink/templates/crds" / name] = (
            f"{_HEAD}{{{{- if .Values.crds.install }}}}\n{text}{{{{- end }}}}\n"
        )
        page = root / "docs/kinds" / f"{crd['spec']['names']['singular']}.md"
        found[page] = with_tables(page.read_text(encoding="utf-8"), crd)
    return found
