"""The Kubernetes cluster that the demo and the end-to-end tests run on.

Two implementations behind one command line (`python3 -m hack.cluster`): `kind` where a Docker engine answers, else
`embedded`, one real node put together from processes of this machine. Everything here runs on the standard library,
before any virtual environment exists.
"""
