"""Sessions that scale-down, rollout, node drain and a killed operator end, on the cluster that runs, under live RTP.

The one row that kwok cannot give: its pods carry no media. Without a cluster and images the row says what is missing.
"""

from benchmarks.operator import rows
from hack.lab import kube
from hack.lab.bridge import install
from hack.lab.moves import Figures
from hack.lab.report import Row
from hack.lab.rooms import Rooms, measure

NAMESPACE = "auralink-bench-rooms"


def lacks() -> str:
    """What keeps the row from being measured, before anything is; "" if nothing does."""
    try:
        kube.access()
        kube.images()
    except (kube.KubeError, kube.NotInTime) as error:
        return str(error)
    return ""


def row() -> Row:
    try:
        found = _measured()
    except (kube.KubeError, kube.NotInTime) as error:
        return rows.row("sessions_dropped", None, f"not run: {error}")
    each = "; ".join(
        f"{name} {one.dropped} of {one.sessions}, longest gap {one.gap_ms_max} ms" for name, one in found.items()
    )
    lost = sum(one.lost for one in found.values())
    return rows.row("sessions_dropped", sum(one.dropped for one in found.values()), f"{each}; {lost} packets lost")


def _measured() -> dict[str, Figures]:
    cluster = kube.Kube(kube.access())
    images = kube.images()
    install(cluster, images)
    _remove(cluster, wait=True)
    cluster.namespace(NAMESPACE)
    try:
        crowd = Rooms(cluster, NAMESPACE, images["media-tools"])
        crowd.start()
        return measure(crowd)
    finally:
        _remove(cluster, wait=False)


def _remove(cluster: kube.Kube, *, wait: bool) -> None:
    arguments = ("--ignore-not-found", f"--wait={str(wait).lower()}", "--timeout=90s")
    cluster.kubectl("delete", "namespace", NAMESPACE, *arguments, timeout_s=100)
