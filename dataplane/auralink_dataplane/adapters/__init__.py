"""One client per outside service; none knows another."""
