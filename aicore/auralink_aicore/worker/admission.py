"""How much of a core a session takes, and so how many sessions a worker may seat; used by `server`. Pure.

The estimate is ``frames per second x milliseconds of one frame x host factor``. The milliseconds were measured on
one quiet core; the host factor is what this machine takes for the same work, first by calibration, then live.
"""

from dataclasses import dataclass, field

REFERENCE_FPS = 30
REFERENCE_PIXELS = 1280 * 720
# H.264 at 720p is 5.5 ms; at 360p not a quarter of that, because some of it is per frame.
FRAME_MS = 0.5
REFERENCE_PIXELS_MS = 5.0
# What calibration's picture costs where a 720p frame costs 5.5 ms.
CALIBRATION_MS = 2.3

SHADOW_SHARE = 0.3  # decoding only
FULL_AT = 0.7  # of a core; above it queueing shows in the 95th percentile

LIVE_WEIGHT = 0.01  # of one frame in the running host factor: some seconds of one stream
HOST_FACTORS = (0.2, 20.0)  # beyond these a clock is wrong


def frame_ms(pixels: int) -> float:
    """Decode and encode of one inter frame on the reference core."""
    return FRAME_MS + REFERENCE_PIXELS_MS * (pixels or REFERENCE_PIXELS) / REFERENCE_PIXELS


@dataclass(slots=True)
class Load:
    """What one session is expected to take."""

    pixels: int  # 0 = not known yet
    fps: int  # 0 = not known
    shadow: bool = False

    def cores(self, host_factor: float) -> float:
        """Share of one core."""
        share = SHADOW_SHARE if self.shadow else 1.0
        return share * (self.fps or REFERENCE_FPS) * frame_ms(self.pixels) * host_factor / 1000


@dataclass(slots=True)
class Admission:
    """The seats of every worker that is up: worker -> session -> load."""

    host_factor: float = 1.0
    seats: dict[int, dict[int, Load]] = field(default_factory=dict)

    def cores(self, worker: int) -> float:
        """What the sessions of a worker are expected to take."""
        return sum(load.cores(self.host_factor) for load in self.seats[worker].values())

    def load(self) -> float:
        """Of everything that may be seated, 0..1; 1 when no worker is up."""
        if not self.seats:
            return 1.0
        return min(sum(map(self.cores, self.seats)) / (FULL_AT * len(self.seats)), 1.0)

    def choose(self, load: Load) -> int | None:
        """The least loaded worker if it can take this session, else None.

        An idle worker takes any session: on a slow host, one stream served a little late beats none.
        """
        if not self.seats:
            return None
        worker = min(self.seats, key=self.cores)
        taken = self.cores(worker)
        if taken and taken + load.cores(self.host_factor) > FULL_AT:
            return None
        return worker

    def calibrated(self, picture_ms: float) -> None:
        """A worker measured the reference picture."""
        self.host_factor = _bounded(picture_ms / CALIBRATION_MS)

    def observed(self, frame_took_ms: float, pixels: int) -> None:
        """A frame was decoded and encoded in so many milliseconds."""
        seen = _bounded(frame_took_ms / frame_ms(pixels))
        self.host_factor += LIVE_WEIGHT * (seen - self.host_factor)


def _bounded(factor: float) -> float:
    low, high = HOST_FACTORS
    return min(max(factor, low), high)
