"""The processes that own codecs, and the front's side of them.

`process` runs in the child: one thread, many sessions, the frame with the earliest deadline first. `pool` runs in
the front: starts the children, seats sessions, notices deaths. They speak `wire` over a socketpair: encoded frames
cross, pictures never. `admission` says how much a child can take. A codec that crashes takes one child with it; the
port, the connections and the other children's sessions live on.
"""
