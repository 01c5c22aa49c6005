"""How long receivers miss a picture when the AI Core of their stream is ended or hangs and a standby takes over.

A whole pod in this process between FFmpeg, which sends 320x240 at 25 pictures a second, and a strict decoder; two real
AI Cores, one of them warm. What is counted is the longest time between two pictures beyond their usual distance.
"""

import tempfile
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path

from tests.integration.core_pair import PROCESS_FAULTS, Pair, active_of, over, running, struck
from tests.integration.onlooker import CODECS, FPS, encode, pictures, scene

TIMEOUT_MS = 100
"""Of an answer, as a bridge has it by default; a keyframe has twice that."""
HANGS = "server hung"
TIMES = 3


@dataclass(frozen=True, slots=True)
class Failure:
    fault: str
    late_ms: float  # the longest wait for a picture beyond the usual; of a hang, beyond TIMEOUT_MS as well
    complaints: int  # of the decoder, and native frames, of which there must be none
    lowest_psnr_db: float


async def measure(codec: str, say: Callable[[str], None]) -> list[Failure]:
    """Each fault TIMES times. Raises RuntimeError when the stream does not run, or does not come back in time."""
    found: list[Failure] = []
    with tempfile.TemporaryDirectory() as folder:
        clip = encode(Path(folder), CODECS[codec])
        pair = Pair()
        async with AsyncExitStack() as stack:
            stack.push_async_callback(pair.close)
            for fault in PROCESS_FAULTS:
                for number in range(TIMES):
                    try:
                        found.append(await _once(pair, codec, clip, fault))
                    except AssertionError as error:
                        raise RuntimeError(f"{codec}, {fault}: {error}") from error
                    say(f"failover {codec}, {fault} {number + 1} of {TIMES}: {found[-1].late_ms:.0f} ms late")
    return found


async def _once(pair: Pair, codec: str, clip: Path, fault: str) -> Failure:
    cores = await pair.whole()
    addresses: Sequence[str] = [core.address for core in cores]
    async with scene(CODECS[codec], clip, addresses, standby=True, timeout_ms=TIMEOUT_MS) as seen:
        await running(seen, standby=True)
        core = cores[addresses.index(active_of(seen))]
        with struck(core, fault) as at:
            await over(seen, at)
        if fault == "server killed":
            await core.process.wait()
        complaints, worst = seen.received.judge(codec, pictures(clip))
        late_s = seen.received.gap_s(at) - 1 / FPS - (TIMEOUT_MS / 1000 if fault == HANGS else 0.0)
        return Failure(fault, 1000 * late_s, len(complaints) + int(seen.out["native_frames"]), worst)
