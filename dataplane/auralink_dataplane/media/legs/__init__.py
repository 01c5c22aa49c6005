"""One module per kind of peer: how a transport is negotiated and its streams are opened."""
