"""The operator as it runs in its image: a process, its pages, and its end."""

import asyncio
import os
import signal
import sys

import aiohttp

from tests.integration.kube_api import ROOT, ApiServer, eventually, hands
from tests.integration.operator_bench import a_bridge, grant

ROOTS = os.pathsep.join(str(ROOT / part) for part in ("operator", "protos"))


async def test_the_process_serves_gets_ready_and_ends_on_sigterm(api_server: ApiServer) -> None:
    async with hands(api_server, "process") as kube:
        await grant(kube)
        arguments = ("run", "--data-plane-image=image:1", "--ai-core-address=ai:50051", "--namespace=process")
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            *("-m", "auralink_operator", *arguments, "--health-port=18185"),
            env={**os.environ, "KUBECONFIG": str(api_server.operator_kubeconfig), "PYTHONPATH": ROOTS},
            stderr=asyncio.subprocess.PIPE,
        )
        try:

            async def ready() -> bool:
                try:
                    url = "http://127.0.0.1:18185/readyz"
                    async with aiohttp.ClientSession() as session, session.get(url) as answer:
                        return answer.status == 200
                except aiohttp.ClientError:
                    return False

            await eventually(ready, "/readyz is 200", 60.0)
            await kube.create("auralinkbridges", a_bridge())

            async def made() -> bool:
                return await kube.get("deployments", "auralink-b") is not None

            await eventually(made, "the Deployment is there")
            process.send_signal(signal.SIGTERM)
            _, said = await asyncio.wait_for(process.communicate(), 20)
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()
        assert process.returncode == 0, said.decode()
        assert b'"level": "error"' not in said, said.decode()


async def test_wrong_settings_end_the_process_with_all_errors() -> None:
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        *("-m", "auralink_operator", "run", "--health-port=none"),
        env={**os.environ, "PYTHONPATH": ROOTS, "AURALINK_AI_CORE_ADDRESS": "", "AURALINK_DATA_PLANE_IMAGE": ""},
        stderr=asyncio.subprocess.PIPE,
    )
    _, said = await asyncio.wait_for(process.communicate(), 30)
    assert process.returncode == 78
    for flag in (b"--data-plane-image", b"--ai-core-address", b"--health-port"):
        assert flag in said
