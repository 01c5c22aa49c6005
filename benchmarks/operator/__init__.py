"""The operator's promised numbers, measured on a control plane of their own: `python -m benchmarks.operator`.

A real etcd, API server, controller manager and scheduler; kwok plays the nodes and makes pods Ready; `pods` plays the
data plane's share in the API (the status entry and the acknowledgement of each pod). The operator is the real process.
Times and counts are read from the API server's audit log, not from our own code.
"""
