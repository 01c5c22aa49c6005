"""The relay that one would write in an afternoon: asyncio, one callback per datagram. The peer of `cpu_per_packet`.

Run as its own process. Prints its port; at the end of its input, one JSON line with the packets and the CPU seconds.
"""

import asyncio
import json
import sys
import time
from typing import cast


class Relay(asyncio.DatagramProtocol):
    def __init__(self, target: tuple[str, int]) -> None:
        self._target = target
        self.packets = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.DatagramTransport, transport)

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:  # noqa: ARG002
        self.packets += 1
        self._transport.sendto(data, self._target)


async def main(target_port: int) -> None:
    loop = asyncio.get_running_loop()
    relay = Relay(("127.0.0.1", target_port))
    transport, _ = await loop.create_datagram_endpoint(lambda: relay, local_addr=("127.0.0.1", 0))
    print(transport.get_extra_info("sockname")[1], flush=True)
    began = time.process_time()
    await loop.run_in_executor(None, sys.stdin.read)
    print(json.dumps({"packets": relay.packets, "cpu_s": time.process_time() - began}), flush=True)
    transport.close()


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1])))
