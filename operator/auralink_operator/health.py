"""/healthz, /readyz and /metrics on one port, from what the loops really do; run by `__main__`.

Live: nothing that is due or at work has stood still for two minutes, so a hung worker or a stuck loop shows. Ready: the
index holds all that the API server listed, so what is decided from it is right; a standby is ready too.
"""

from collections.abc import Callable

from aiohttp import web
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

from auralink_operator.metrics import Metrics
from auralink_operator.queue import WorkQueue

STUCK_S = 120.0


async def serve(port: int, metrics: Metrics, queue: WorkQueue, ready: Callable[[], bool]) -> web.AppRunner:
    """Starts the server; the caller ends it with `cleanup`."""

    async def healthz(_: web.Request) -> web.Response:
        stuck_s = queue.stuck_s()
        if stuck_s > STUCK_S:
            return web.Response(status=503, text=f"nothing has moved for {stuck_s:.0f} s\n")
        return web.Response(text="ok\n")

    async def readyz(_: web.Request) -> web.Response:
        return web.Response(text="ok\n") if ready() else web.Response(status=503, text="the index is not full yet\n")

    async def metrics_page(_: web.Request) -> web.Response:
        metrics.queue_depth.set(queue.busy())
        metrics.queue_oldest_seconds.set(queue.oldest_s())
        return web.Response(body=generate_latest(metrics.registry), headers={"Content-Type": CONTENT_TYPE_LATEST})

    app = web.Application()
    app.add_routes([web.get("/healthz", healthz), web.get("/readyz", readyz), web.get("/metrics", metrics_page)])
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, port=port).start()
    return runner
