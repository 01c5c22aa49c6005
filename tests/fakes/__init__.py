"""In-memory twins of what the parts talk to. A twin passes the tests of the real thing."""
