"""Brings the schema of records up to date: `python -m auralink_dataplane.migrate`."""
