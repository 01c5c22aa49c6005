"""Client of the AI Core: endpoints, their breakers, one stream per session.

`streams` opens a session for every video stream that is to be compressed and hears of it through a Listener. An
endpoint is one address behind `aiCore.addresses` (a headless Service's name gives several), with one channel and one
breaker; a session goes to the usable endpoint that its name hashes highest with, so it comes back to the same one
while that lives. Nothing here retries a session: `pipeline` decides when, the client says when an endpoint has become
usable.

`client` keeps the endpoints and places sessions, `session` is one stream, `endpoint` one server and what is known of
it, `names` what the configured names stand for. Only `wire` knows gRPC and the messages.
"""

from auralink_dataplane.media.aic.client import AicClient
from auralink_dataplane.media.aic.names import Resolve, resolve_all
from auralink_dataplane.media.aic.session import Listener, Session
from auralink_dataplane.media.aic.wire import Identity, SessionRequest

__all__ = ["AicClient", "Identity", "Listener", "Resolve", "Session", "SessionRequest", "resolve_all"]
