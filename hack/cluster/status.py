"""What both kinds of cluster say about themselves; `python3 -m hack.cluster status --json` prints it for programs."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Status:
    """`problems` is empty exactly when the cluster is usable. The paths are where the files are or would be."""

    kind: str
    problems: list[str]
    kubeconfig: str
    kubectl: str
    audit_log: str

    @property
    def healthy(self) -> bool:
        return not self.problems
