"""A data-plane pod put together: `pod` opens, starts and closes it, `duty` says which rooms it serves and why some are
not, `views` is what it tells of itself. `__main__` runs it.
"""

from auralink_dataplane.app.pod import App, Cluster, Host, TaskDiedError

__all__ = ["App", "Cluster", "Host", "TaskDiedError"]
