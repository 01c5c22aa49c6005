"""Writes what follows from `models`: the CRDs and the field tables of `docs/kinds`. Run by `make generate` and by CI.

`structural` turns a model into a schema, `status` has the schemas of both statuses, `kinds` the CRDs, `pages` the
tables, and `files` all of it by path.
"""

from auralink_operator.crdgen.files import files
from auralink_operator.crdgen.kinds import crds

__all__ = ["crds", "files"]
