"""What the data plane counts on in an AI Core: one class of tests, over the twin and over the real thing."""

import asyncio
import subprocess
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest
from auralink_dataplane.media.aic import AicClient, Identity, Session, SessionRequest
from auralink_dataplane.media.frames import Disposition, Frame, Mode, Result
from auralink_dataplane.media.pipeline import Failure, Refusal
from auralink_dataplane.policy import Compression
from auralink_dataplane.settings import AiCoreSpec

from tests.fakes.aicore import FakeAiCore
from tests.integration.media import FFMPEG, Studio

ANSWER_S = 20.0


class Client:
    """One session, fed with the frames of a clip."""

    def __init__(self, frames: list[bytes]) -> None:
        self.frames = frames
        self.results: list[Result] = []
        self.opened = 0
        self.failures: list[Failure] = []
        self.secrets: dict[str, bytes] = {}
        loop = asyncio.get_running_loop()
        self.aic = AicClient(
            Identity("ns/b", "pod-1"),
            clock=loop.time,
            read_secret=lambda _name, key: self.secrets.get(key),
            available=lambda: None,
        )
        self.session: Session | None = None

    async def open(self, address: str, *, tls_secret: str | None = None) -> None:
        self.aic.configure(AiCoreSpec(addresses=(address,), tls_secret_name=tls_secret))
        await self.aic.resolve_once()
        policy = Compression(mode="Always", quality_level=5)
        self.session = self.aic.open(SessionRequest("r/1", 1, "r", "H264", 90000, policy), self)
        await self.until(lambda: self.opened)

    async def send(self, first: int, count: int, mode: Mode = Mode.COMPRESS) -> list[Result]:
        """So many frames at 25 a second; their answers."""
        assert self.session
        before = len(self.results)
        for number in range(first, first + count):
            key = number == 0
            data = self.frames[number]
            frame = Frame(1, number, mode, "H264", number * 3600, key, 0.0, 0.0, False, len(data), data)
            self.session.send(frame, mode, 0)
            await asyncio.sleep(0.04)
        await self.until(lambda: len(self.results) == before + count or self.failures)
        assert not self.failures
        return self.results[before:]

    async def until(self, condition: Callable[[], object]) -> None:
        async with asyncio.timeout(ANSWER_S):
            while not condition():  # noqa: ASYNC110 - watches a peer that knows no events
                await asyncio.sleep(0.01)

    def session_opened(self, session: int, max_in_flight: int, *, probe: bool) -> None:
        self.opened = max_in_flight

    def session_refused(self, session: int, why: Refusal) -> None:
        raise AssertionError(why)

    def session_result(self, session: int, result: Result) -> None:
        self.results.append(result)

    def session_failed(self, session: int, failure: Failure) -> None:
        self.failures.append(failure)

    def session_draining(self, session: int) -> None: ...
    def session_shed(self, session: int) -> None: ...


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> list[bytes]:
    """Access units of one long group of pictures; an access unit delimiter begins each."""
    path: Path = tmp_path_factory.mktemp("clip") / "clip.h264"
    command = [
        FFMPEG, "-v", "error", "-f", "lavfi", "-i", "testsrc2=size=320x240:rate=25", "-t", "3", "-c:v", "libx264",
        "-profile:v", "baseline", "-tune", "zerolatency", "-g", "999", "-b:v", "600k",
        "-x264-params", "aud=1", str(path),
    ]  # fmt: skip
    subprocess.run(command, check=True, timeout=60)
    delimiter = b"\x00\x00\x00\x01\x09"
    return [delimiter + unit for unit in path.read_bytes().split(delimiter)[1:]]


@pytest.fixture(params=["twin", "real"])
async def address(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[str]:
    if request.param == "twin":
        async with FakeAiCore() as core:
            yield core.address
    else:
        studio = Studio(tmp_path)
        async with studio.core():
            yield f"127.0.0.1:{studio.core_port}"


@pytest.fixture
async def client(address: str, clip: list[bytes]) -> AsyncIterator[Client]:
    one = Client(clip)
    await one.open(address)
    yield one
    await one.aic.close()


class TestAiCore:
    async def test_every_frame_is_answered_once_in_order_beginning_with_a_key(self, client: Client) -> None:
        results = await client.send(0, 30)
        assert [result.frame_id for result in results] == list(range(30))
        assert results[0].key
        assert results[0].disposition is Disposition.COMPRESSED
        assert all(result.disposition in (Disposition.COMPRESSED, Disposition.SKIPPED) for result in results)
        assert client.opened == 16

    async def test_shadow_frames_are_unchanged_and_compression_begins_with_a_key_of_its_own(
        self, client: Client
    ) -> None:
        shadow = await client.send(0, 5, Mode.SHADOW)
        assert {result.disposition for result in shadow} == {Disposition.UNCHANGED}
        compressed = await client.send(5, 5)
        assert compressed[0].key
        assert compressed[0].disposition is Disposition.COMPRESSED
        again = await client.send(10, 2, Mode.SHADOW)
        assert {result.disposition for result in again} == {Disposition.UNCHANGED}

    async def test_a_forced_key_comes_without_one_from_the_sender(self, client: Client) -> None:
        await client.send(0, 5)
        assert client.session
        client.session.force_key()
        assert any(result.key for result in await client.send(5, 3))

    async def test_it_reports_its_load_and_itself(self, client: Client) -> None:
        await client.aic.poll_once()
        [endpoint] = client.aic.endpoints()
        assert endpoint["reachable"]
        assert client.aic.usable

    async def test_an_ended_session_fails_nobody(self, client: Client) -> None:
        await client.send(0, 3)
        assert client.session
        client.session.close(None)
        await asyncio.sleep(0.2)
        assert not client.failures


def certificates(folder: Path) -> None:
    """An authority, and one certificate of it for both ends."""

    def openssl(*arguments: str) -> None:
        subprocess.run(["openssl", *arguments], check=True, cwd=folder, capture_output=True, timeout=60)

    new = ("req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-subj")
    openssl(*new, "/CN=authority", "-x509", "-days", "2", "-keyout", "ca.key", "-out", "ca.crt")
    openssl(*new, "/CN=localhost", "-keyout", "tls.key", "-out", "tls.csr")
    (folder / "names").write_text("subjectAltName=DNS:localhost")
    sign = ("-CA", "ca.crt", "-CAkey", "ca.key", "-CAcreateserial", "-extfile", "names")
    openssl("x509", "-req", "-in", "tls.csr", *sign, "-days", "2", "-out", "tls.crt")


async def test_both_ends_show_certificates_where_the_core_asks_for_them(tmp_path: Path, clip: list[bytes]) -> None:
    certificates(tmp_path)
    studio = Studio(tmp_path)
    async with studio.core(AICORE_TLS_DIR=str(tmp_path)):
        client = Client(clip)
        client.secrets = {name: (tmp_path / name).read_bytes() for name in ("ca.crt", "tls.crt", "tls.key")}
        await client.open(f"localhost:{studio.core_port}", tls_secret="core-tls")  # noqa: S106 - a name
        assert len(await client.send(0, 3)) == 3
        await client.aic.close()
        stranger = Client(clip)
        stranger.secrets = {"ca.crt": client.secrets["ca.crt"]}
        stranger.aic.configure(AiCoreSpec(addresses=(f"localhost:{studio.core_port}",), tls_secret_name="core-tls"))  # noqa: S106
        await stranger.aic.resolve_once()
        await stranger.aic.poll_once()
        assert not stranger.aic.usable
        await stranger.aic.close()
