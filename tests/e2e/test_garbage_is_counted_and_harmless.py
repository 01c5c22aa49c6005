from hack.lab.measure import LATE_SHARE
from hack.lab.stage import SENDER, VIDEO_PORT
from tests.e2e.conftest import NAMESPACE
from tests.e2e.live import Live

# Runs beside the sender: bytes of all kinds from a socket of its own to the port that live video comes in by, which the
# pod's kernel drops, and to that of its reports, which may come from any port of the sender's host.
FLOOD = """
import os, socket, struct, sys
out = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
header = struct.pack(">BBHII", 0x80, 96, 1, 2, 3)
for n in range(200):
    for datagram in (
        b"", b"\\x80", header[:11], os.urandom(40 + n), bytes(1400), b"\\x00\\x01" + os.urandom(18),
        struct.pack(">BBHII", 0x80, 55, n, n, 4) + os.urandom(100),
        struct.pack(">BBHII", 0x80, 96, n * 997 % 65536, n, 5) + os.urandom(200),
        struct.pack(">BBHII", 0x9f, 96, n, n, 6) + os.urandom(8),
        struct.pack(">BBH", 0x80, 200, 0xffff) + os.urandom(24),
    ):
        for above in (0, 1):
            try:
                out.sendto(datagram, (sys.argv[1], int(sys.argv[2]) + above))
            except OSError:
                pass
"""


def test_a_flood_of_garbage_changes_nothing_but_the_counters(live: Live) -> None:
    lives = live.bridge.lives()
    before = live.bridge.drops()

    inside = ["exec", "-n", NAMESPACE, SENDER, "-c", "tap", "--", "python3", "-c", FLOOD]
    live.bridge.kube.kubectl(*inside, live.bridge.rtp_service, str(VIDEO_PORT))
    seen, crossed = live.watch(4)

    after = live.bridge.drops()
    grown = {reason: count - before.get(reason, 0) for reason, count in after.items()}
    assert min(grown.get(reason, 0) for reason in ("kernel_dropped", "malformed")) > 1000, grown
    assert crossed.missing <= LATE_SHARE * crossed.frames_in
    assert (crossed.incomplete, len(seen.received.ssrcs)) == (0, 1)
    assert live.bridge.lives() == lives
