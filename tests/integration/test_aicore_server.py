"""The AI Core as its clients meet it: a process, a port, real gRPC, real H.264."""

import asyncio
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import grpc
import grpc.aio
import pytest
import pytest_asyncio
from auralink_aicore.__main__ import usable_cores
from auralink_aicore.codecs import SERVED, Codec
from auralink_aicore.model import packaged
from auralink_pb.aicore.v1 import aicore_pb2 as pb
from auralink_pb.aicore.v1 import aicore_pb2_grpc as pb_grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from hack.lab.aicore import SOURCES, Running, aicore
from tests.integration.aicore_server import Stream
from tests.unit.aicore import clips, models

OK = pb.SessionOpened.STATUS_OK


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def server() -> AsyncIterator[Running]:
    """One that nobody hurts."""
    async with aicore(workers=2) as running:
        yield running


@pytest_asyncio.fixture(loop_scope="module")
async def channel(server: Running) -> AsyncIterator[grpc.aio.Channel]:
    async with grpc.aio.insecure_channel(server.address) as opened:
        yield opened


async def http_get(port: int, path: str) -> tuple[int, bytes]:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(f"GET {path} HTTP/1.1\r\nHost: test\r\n\r\n".encode())
    head, _, body = (await reader.read()).partition(b"\r\n\r\n")
    writer.close()
    return int(head.split()[1]), body


@pytest.mark.asyncio(loop_scope="module")
class TestServing:
    @pytest.mark.parametrize("sender", clips.SENDERS, ids=str)
    async def test_frames_come_back_smaller_in_order_and_decodable(
        self, channel: grpc.aio.Channel, sender: clips.Sender
    ) -> None:
        units = sender.send(frames=90)
        stream = Stream(channel, sender)
        opened = await stream.open()
        assert (opened.status, opened.max_in_flight, opened.model) == (OK, 16, packaged().id)
        results = await stream.exchange(units)
        assert [r.frame_id for r in results] == list(range(90))
        assert {r.disposition for r in results} == {pb.DISPOSITION_COMPRESSED}
        assert sum(len(r.payload) for r in results) < 0.8 * sum(map(len, units))
        assert sender.complaints([r.payload for r in results]) == ""
        assert all(0 < r.encoder_us < 5_000_000 for r in results)
        await stream.control(end=pb.End())
        assert await stream.ended() is grpc.StatusCode.OK

    async def test_frames_may_be_in_flight_together(self, channel: grpc.aio.Channel) -> None:
        stream = Stream(channel)
        await stream.open()
        for unit in clips.h264()[:16]:
            await stream.send(unit)
        await stream.control(end=pb.End())
        results = [(await stream.read()).result.frame_id for _ in range(16)]
        assert results == list(range(16))
        assert await stream.ended() is grpc.StatusCode.OK

    async def test_controls_keep_their_place_between_frames(self, channel: grpc.aio.Channel) -> None:
        units = clips.h264()
        stream = Stream(channel)
        await stream.open()
        await stream.exchange(units[:5])
        await stream.control(force_key=pb.ForceKey())
        forced = await stream.exchange(units[5:7])
        assert [r.key for r in forced] == [True, False]
        await stream.control(policy=pb.Policy(target_savings=0.5, always=True))
        await stream.exchange(units[7:10], pb.MODE_SHADOW)
        await stream.control(promote=pb.Promote())
        promoted = (await stream.read()).result
        assert (promoted.frame_id, promoted.key, promoted.disposition) == (9, True, pb.DISPOSITION_COMPRESSED)

    async def test_a_corrupt_frame_asks_for_a_key_and_costs_nobody_else_anything(
        self, channel: grpc.aio.Channel
    ) -> None:
        units = clips.h264()
        stream, other = Stream(channel), Stream(channel)
        await stream.open()
        await other.open()
        await stream.exchange(units[:3])
        (broken,) = await stream.exchange([units[3][:20]])
        assert (broken.disposition, broken.need_key) == (pb.DISPOSITION_SKIPPED, True)
        stream.next_id, healthy = 30, await other.exchange(units[:5])
        assert {r.disposition for r in healthy} == {pb.DISPOSITION_COMPRESSED}
        assert (await stream.exchange(units[30:31]))[0].key


@pytest.mark.asyncio(loop_scope="module")
class TestRefusing:
    @pytest.mark.parametrize("codec", [*(codec for codec in Codec if codec not in SERVED), 99])
    async def test_other_codecs_are_unsupported(self, channel: grpc.aio.Channel, codec: int) -> None:
        stream = Stream(channel)
        opened = await stream.open(codec=codec)
        assert opened.status == pb.SessionOpened.STATUS_UNSUPPORTED
        assert (codec.name if isinstance(codec, Codec) else str(codec)) in opened.reason
        assert await stream.ended() is grpc.StatusCode.OK

    async def test_so_are_pictures_that_are_too_large(self, channel: grpc.aio.Channel) -> None:
        opened = await Stream(channel).open(width=3840, height=2160)
        assert opened.status == pb.SessionOpened.STATUS_UNSUPPORTED

    async def test_so_is_a_model_that_is_not_here(self, channel: grpc.aio.Channel) -> None:
        opened = await Stream(channel).open(policy=pb.Policy(model="other-1.0.0"))
        assert opened.status == pb.SessionOpened.STATUS_UNSUPPORTED
        assert "other-1.0.0" in opened.reason

    @pytest.mark.parametrize(
        ("fields", "names"),
        [
            ({"codec": pb.CODEC_UNSPECIFIED}, "codec"),
            ({"policy": pb.Policy(target_savings=1.5)}, "target_savings is 1.5, allowed are 0 to 0.9"),
            ({"policy": pb.Policy(quality_level=0)}, "quality_level is 0, allowed are 1 to 10"),
        ],
    )
    async def test_nonsense_ends_the_call_with_a_reason(
        self, channel: grpc.aio.Channel, fields: dict[str, object], names: str
    ) -> None:
        stream = Stream(channel)
        with pytest.raises(grpc.aio.AioRpcError):
            await stream.open(**fields)
        assert await stream.ended() is grpc.StatusCode.INVALID_ARGUMENT
        assert names in await stream.call.details()

    async def test_a_call_must_begin_with_open(self, channel: grpc.aio.Channel) -> None:
        stream = Stream(channel)
        await stream.send(b"")
        assert await stream.ended() is grpc.StatusCode.INVALID_ARGUMENT

    async def test_a_frame_without_a_mode_ends_the_call(self, channel: grpc.aio.Channel) -> None:
        stream = Stream(channel)
        await stream.open()
        await stream.send(b"", pb.MODE_UNSPECIFIED)
        assert await stream.ended() is grpc.StatusCode.INVALID_ARGUMENT

    async def test_a_full_core_says_so_and_takes_sessions_again_when_some_have_gone(
        self, channel: grpc.aio.Channel
    ) -> None:
        streams = [Stream(channel) for _ in range(100)]
        heavy = {"width": 640, "height": 360, "max_fps": 30}
        answers = [(await stream.open(**heavy)).status for stream in streams]
        assert answers[:2] == [OK, OK]  # an idle worker takes what a core keeps up with, and this is far below
        assert answers[-1] == pb.SessionOpened.STATUS_FULL
        capabilities = await pb_grpc.AICoreStub(channel).GetCapabilities(pb.CapabilitiesRequest())
        assert capabilities.load > 0.5  # full to within one stream, and those are large on a slow host
        for stream in streams:
            stream.call.cancel()
        again = Stream(channel)
        async with asyncio.timeout(10):
            while (await again.open(**heavy)).status != OK:
                again = Stream(channel)


def arguments_of(pid: int) -> list[bytes]:
    return Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")[:-1]


HEAVY = {"width": 1280, "height": 720, "max_fps": 30}


async def standbys(channel: grpc.aio.Channel) -> list[Stream]:
    """As many as there is room for."""
    seated = []
    while (await (stream := Stream(channel)).open(mode=pb.MODE_SHADOW, **HEAVY)).status == OK:
        seated.append(stream)
    return seated


class TestStandbys:
    async def test_the_newest_goes_when_a_stream_that_compresses_needs_its_room(self) -> None:
        async with aicore() as server, grpc.aio.insecure_channel(server.address) as channel:
            seated = await standbys(channel)
            assert (await Stream(channel).open(**HEAVY)).status == OK
            notice = (await seated[-1].read()).notice
            assert notice.kind == pb.Notice.KIND_SHED
            assert notice.detail
            assert await seated[-1].ended() is grpc.StatusCode.OK
            body = (await http_get(server.http_port, "/metrics"))[1]
            shed = next(line for line in body.split(b"\n") if line.startswith(b"auralink_aicore_sessions_shed_total"))
            assert float(shed.split()[1]) >= 1

    async def test_one_that_begins_to_compress_stays_and_the_newest_makes_room(self) -> None:
        units = clips.h264()
        async with aicore() as server, grpc.aio.insecure_channel(server.address) as channel:
            seated = await standbys(channel)
            assert {r.disposition for r in await seated[0].exchange(units[:3])} == {pb.DISPOSITION_COMPRESSED}
            assert (await seated[-1].read()).notice.kind == pb.Notice.KIND_SHED
            assert await seated[-1].ended() is grpc.StatusCode.OK
            assert {r.disposition for r in await seated[0].exchange(units[3:8])} == {pb.DISPOSITION_COMPRESSED}


@pytest.mark.asyncio(loop_scope="module")
class TestOperating:
    async def test_the_standard_health_service_answers(self, channel: grpc.aio.Channel) -> None:
        for service in ("", "auralink.aicore.v1.AICore"):
            answer = await health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest(service=service))
            assert answer.status == health_pb2.HealthCheckResponse.SERVING

    async def test_reflection_names_the_service(self, channel: grpc.aio.Channel) -> None:
        request = reflection_pb2.ServerReflectionRequest(list_services="")
        call = reflection_pb2_grpc.ServerReflectionStub(channel).ServerReflectionInfo(iter([request]))
        answer = await call.read()
        assert "auralink.aicore.v1.AICore" in {s.name for s in answer.list_services_response.service}

    async def test_capabilities_name_codecs_workers_and_model(self, channel: grpc.aio.Channel) -> None:
        answer = await pb_grpc.AICoreStub(channel).GetCapabilities(pb.CapabilitiesRequest())
        assert {int(c.codec) for c in answer.codecs} == {int(codec) for codec in SERVED}
        assert (answer.workers, answer.model, answer.draining) == (2, packaged().id, False)
        assert 0.2 <= answer.host_factor <= 20
        assert len(bytes.fromhex(answer.model_sha256)) == 32

    async def test_capabilities_offer_only_what_is_taken(self, channel: grpc.aio.Channel) -> None:
        answer = await pb_grpc.AICoreStub(channel).GetCapabilities(pb.CapabilitiesRequest())
        for codec in answer.codecs:
            offered = {"width": codec.max_width, "height": codec.max_height}
            opened = await Stream(channel).open(codec=codec.codec, policy=pb.Policy(), max_fps=1, **offered)
            assert opened.status == OK
            opened = await Stream(channel).open(
                codec=codec.codec, policy=pb.Policy(latency_budget_ms=1), width=1920, height=1080
            )
            assert opened.status == pb.SessionOpened.STATUS_UNSUPPORTED
            assert "latency_budget_ms" in opened.reason

    async def test_a_worker_knows_how_many_cores_may_work_on_one_picture(self, server: Running) -> None:
        assert int(arguments_of(server.worker_pids[0])[-1]) == min(usable_cores(), 2)

    async def test_http_health_and_metrics(self, server: Running, channel: grpc.aio.Channel) -> None:
        await Stream(channel).open()
        status, body = await http_get(server.http_port, "/health")
        assert status == 200
        assert json.loads(body)["status"] == "healthy"
        status, body = await http_get(server.http_port, "/metrics")
        assert status == 200
        assert b"auralink_aicore_workers 2.0" in body
        assert (await http_get(server.http_port, "/else"))[0] == 404


async def test_unless_told_otherwise_it_is_reached_over_both_families() -> None:
    async with aicore(AICORE_LISTEN="[::]:0") as server:
        port = server.line("serving")["port"]
        for host in ("127.0.0.1", "[::1]") if socket.has_dualstack_ipv6() else ("127.0.0.1",):
            async with grpc.aio.insecure_channel(f"{host}:{port}") as channel:
                assert (await Stream(channel).open()).status == pb.SessionOpened.STATUS_OK
        assert (await http_get(server.http_port, "/health"))[0] == 200


class TestFailing:
    async def test_a_killed_worker_costs_its_sessions_and_nothing_else(self) -> None:
        units = clips.h264()
        async with aicore(workers=2) as server, grpc.aio.insecure_channel(server.address) as channel:
            first, second = Stream(channel), Stream(channel)
            for stream in (first, second):
                assert (await stream.open()).status == OK
                await stream.exchange(units[:5])
            sessions = [line["worker"] for line in server.log if line["message"] == "session opened"]
            assert sorted(sessions) == [0, 1]
            victim = next(
                line["pid"]
                for line in server.log
                if line["message"] == "worker ready" and line["worker"] == sessions[0]
            )
            os.kill(victim, signal.SIGKILL)
            notice = (await first.read()).notice
            assert notice.kind == pb.Notice.KIND_LOST
            assert await first.ended() is grpc.StatusCode.OK
            results = await second.exchange(units[5:10])
            assert {r.disposition for r in results} == {pb.DISPOSITION_COMPRESSED}
            await server.wait_logged("worker ready", times=3)
            again = Stream(channel)
            assert (await again.open()).status == OK
            assert (await again.exchange(units[:1]))[0].key

    async def test_more_frames_in_flight_than_allowed_end_the_call(self) -> None:
        async with aicore() as server, grpc.aio.insecure_channel(server.address) as channel:
            stream = Stream(channel)
            await stream.open()
            os.kill(server.worker_pids[0], signal.SIGSTOP)
            for unit in clips.h264()[:17]:
                await stream.send(unit)
            assert await stream.ended() is grpc.StatusCode.RESOURCE_EXHAUSTED
            os.kill(server.worker_pids[0], signal.SIGCONT)

    async def test_a_hanging_worker_is_killed_and_replaced(self) -> None:
        async with aicore() as server, grpc.aio.insecure_channel(server.address) as channel:
            stream = Stream(channel)
            await stream.open()
            os.kill(server.worker_pids[0], signal.SIGSTOP)
            await stream.send(clips.h264()[0])
            assert (await stream.read()).notice.kind == pb.Notice.KIND_LOST
            await server.wait_logged("worker ready", times=2)
            again = Stream(channel)
            await again.open()
            assert (await again.exchange(clips.h264()[:1]))[0].key

    async def test_on_sigterm_sessions_are_asked_to_leave_and_new_ones_refused(self) -> None:
        units = clips.h264()
        async with aicore() as server, grpc.aio.insecure_channel(server.address) as channel:
            stream = Stream(channel)
            await stream.open()
            await stream.exchange(units[:2])
            server.stop()
            assert (await stream.read()).notice.kind == pb.Notice.KIND_DRAINING
            health = await health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest())
            assert health.status == health_pb2.HealthCheckResponse.NOT_SERVING
            assert (await http_get(server.http_port, "/health"))[0] == 503
            assert (await pb_grpc.AICoreStub(channel).GetCapabilities(pb.CapabilitiesRequest())).draining
            assert (await Stream(channel).open()).status == pb.SessionOpened.STATUS_FULL
            assert (await stream.exchange(units[2:3]))[0].disposition == pb.DISPOSITION_COMPRESSED
            await stream.control(end=pb.End())
            assert await stream.ended() is grpc.StatusCode.OK
            assert await asyncio.wait_for(server.process.wait(), 10) == 0

    async def test_a_session_that_does_not_leave_is_cut_off(self) -> None:
        async with aicore() as server, grpc.aio.insecure_channel(server.address) as channel:
            stream = Stream(channel)
            await stream.open()
            server.stop()
            assert await stream.ended() is grpc.StatusCode.UNAVAILABLE
            assert "shut down" in await stream.call.details()
            assert await asyncio.wait_for(server.process.wait(), 15) == 0
            assert server.line("sessions cut off")["sessions"] == 1


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One self-signed certificate that serves as authority, server and client."""
    folder = tmp_path_factory.mktemp("tls")
    command = "openssl req -x509 -newkey rsa:2048 -nodes -days 1 -keyout tls.key -out tls.crt -subj /CN=localhost"
    command += " -addext subjectAltName=DNS:localhost,IP:127.0.0.1"
    subprocess.run(command.split(), cwd=folder, check=True, capture_output=True)
    return folder


class TestTls:
    async def test_with_a_certificate_only_encrypted_calls_are_served(self, certificates: Path) -> None:
        authority = (certificates / "tls.crt").read_bytes()
        async with aicore(AICORE_TLS_DIR=str(certificates)) as server:
            credentials = grpc.ssl_channel_credentials(authority)
            async with grpc.aio.secure_channel(server.address, credentials) as channel:
                stream = Stream(channel)
                assert (await stream.open()).status == OK
                assert (await stream.exchange(clips.h264()[:1]))[0].key
            async with grpc.aio.insecure_channel(server.address) as channel:
                with pytest.raises(grpc.aio.AioRpcError):
                    await Stream(channel).open()

    async def test_with_an_authority_clients_need_a_certificate(self, certificates: Path, tmp_path: Path) -> None:
        for name in ("tls.crt", "tls.key"):
            shutil.copy(certificates / name, tmp_path)
        shutil.copy(certificates / "tls.crt", tmp_path / "ca.crt")
        authority, key = (certificates / "tls.crt").read_bytes(), (certificates / "tls.key").read_bytes()
        async with aicore(AICORE_TLS_DIR=str(tmp_path)) as server:
            with_certificate = grpc.ssl_channel_credentials(authority, key, authority)
            async with grpc.aio.secure_channel(server.address, with_certificate) as channel:
                assert (await Stream(channel).open()).status == OK
            async with grpc.aio.secure_channel(server.address, grpc.ssl_channel_credentials(authority)) as channel:
                with pytest.raises(grpc.aio.AioRpcError):
                    await Stream(channel).open()


def start(**environment: str) -> subprocess.CompletedProcess[str]:
    env = {**os.environ, "PYTHONPATH": SOURCES, **environment}
    command = [sys.executable, "-m", "auralink_aicore"]
    return subprocess.run(command, env=env, capture_output=True, text=True, timeout=60)


class TestStarting:
    def test_all_bad_settings_are_named_at_once_with_exit_78(self) -> None:
        done = start(AICORE_LISTEN="nowhere", AICORE_WORKERS="many", AICORE_HTTP_PORT="70000")
        assert done.returncode == 78
        for name in ("AICORE_LISTEN", "AICORE_WORKERS", "AICORE_HTTP_PORT"):
            assert name in done.stderr

    def test_a_missing_certificate_is_named(self) -> None:
        done = start(AICORE_TLS_DIR="/nonexistent")
        assert done.returncode == 78
        assert "/nonexistent/tls.crt" in done.stderr
        assert "/nonexistent/tls.key" in done.stderr

    async def test_a_taken_port_is_named(self) -> None:
        async with aicore() as server:
            done = await asyncio.to_thread(start, AICORE_LISTEN=server.address, AICORE_HTTP_PORT="0")
            assert done.returncode == 1
            assert "cannot serve" in done.stderr
            assert "Traceback" not in done.stderr


async def test_a_hangup_brings_a_new_model_to_sessions_that_run(tmp_path: Path) -> None:
    """Their clients are told, and a file that is no model changes nothing."""
    first, second = (models.made(name=f"auralink-q-9.{minor}.0.json") for minor in (0, 1))
    (tmp_path / f"{first.id}.json").write_bytes(first.data)
    units = clips.h264(frames=90)
    async with (
        aicore(workers=1, AICORE_MODEL=str(tmp_path)) as running,
        grpc.aio.insecure_channel(running.address) as channel,
    ):
        stream = Stream(channel)
        assert (await stream.open()).model == first.id
        assert (await stream.exchange(units[:20]))[-1].model_hash == first.hash
        (tmp_path / f"{second.id}.json").write_bytes(second.data)
        running.process.send_signal(signal.SIGHUP)
        notice = (await stream.read()).notice
        assert (notice.kind, notice.detail) == (pb.Notice.KIND_MODEL_CHANGED, second.id)
        assert (await stream.exchange(units[20:60]))[-1].model_hash == second.hash
        (tmp_path / "auralink-q-9.2.0.json").write_bytes(b"{}")
        running.process.send_signal(signal.SIGHUP)
        await running.wait_logged("the model stays")
        answer = await pb_grpc.AICoreStub(channel).GetCapabilities(pb.CapabilitiesRequest())
        assert (answer.model, answer.model_sha256) == (second.id, second.sha256)
        assert (await stream.exchange(units[60:]))[-1].model_hash == second.hash
