"""How much of a core a session takes, and so how many sessions a worker may seat; used by `server`. Pure.

The estimate is ``frames per second x milliseconds of one frame x host factor``, with what was learned of the session
so far. Sessions that COMPRESS come first: they may fill FULL_AT of a core, and standbys, which only watch, share
what is left to STANDBY_FULL_AT. A standby is shed when a session that compresses needs its room.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field

from auralink_aicore.codecs import Codec
from auralink_aicore.worker.costs import COSTS, Host, elapsed_ms

REFERENCE_FPS = 30
# What calibration's picture costs where a 720p frame of H.264 costs 5.5 ms.
CALIBRATION_MS = 2.3

SHADOW_SHARE = 0.3  # decoding only
FULL_AT = 0.7  # of a core; above it queueing shows in the 95th percentile
STANDBY_FULL_AT = 0.9
WHOLE_CORE = 1.0
MAX_SEATS = 128  # sessions of one worker; each holds a decoder, whatever its frames cost

RATE_S = 2.0  # over which a session's frames are counted

LIVE_WEIGHT = 0.01  # of one frame in the running host factor: some seconds of one stream
RELAX_WEIGHT = 0.2  # of one pause between frames
HOST_FACTORS = (0.2, 20.0)  # beyond these a clock is wrong


@dataclass(slots=True)
class Load:
    """What one session is expected to take, by its own word first and by what came later."""

    codec: Codec
    pixels: int = 0  # 0 = not known yet
    fps: float = 0.0  # 0 = not known
    shadow: bool = False
    refused: bool = False  # it is answered without looking at its pictures
    _counted: int = 0
    _since_s: float | None = None

    def arrived(self, now: float) -> None:
        """A frame came: its rate is what comes, not what was promised."""
        if self._since_s is None:
            self._since_s = now
            return
        self._counted += 1
        if now - self._since_s >= RATE_S:
            self.fps = self._counted / (now - self._since_s)
            self._counted, self._since_s = 0, now

    def cores(self, host_factor: float) -> float:
        """Share of one core."""
        if self.refused:
            return 0.0
        share = SHADOW_SHARE if self.shadow else 1.0
        return share * (self.fps or REFERENCE_FPS) * COSTS[self.codec].ms(self.pixels) * host_factor / 1000


@dataclass(frozen=True, slots=True)
class Place:
    """Where a session is seated, and which standbys of that worker have to go for it."""

    worker: int
    shed: tuple[int, ...] = ()


@dataclass(slots=True)
class Admission:
    """The seats of every worker that is up: worker -> session -> load, the oldest first."""

    host_factor: float = 1.0
    picture_cores: int = 1
    seats: dict[int, dict[int, Load]] = field(default_factory=dict)
    _calibrated: float = 1.0
    _observed: bool = False

    @property
    def host(self) -> Host:
        """For `costs`."""
        return Host(self.host_factor, self.picture_cores)

    def cores(self, worker: int) -> float:
        """What the sessions of a worker are expected to take."""
        return sum(load.cores(self.host_factor) for load in self.seats[worker].values())

    def load(self) -> float:
        """Of everything that may be seated, 0..1; 1 when no worker is up."""
        if not self.seats:
            return 1.0
        firm = sum(map(self._firm, self.seats)) / FULL_AT
        every = sum(map(self.cores, self.seats)) / STANDBY_FULL_AT
        return min(max(firm, every) / len(self.seats), 1.0)

    def place(self, load: Load) -> Place | None:
        """The worker that takes this session with the fewest standbys shed, of those the least loaded; else None.

        A worker without sessions that compress takes one that needs more than FULL_AT, as long as a whole core can
        keep up with it: on a host a little too slow, one stream served late now and then beats none. A stream that
        outruns a core would only be skipped, and is sent elsewhere.
        """
        possible = [(len(place.shed), self.cores(place.worker), place) for place in self._places(load)]
        return min(possible, key=lambda one: one[:2])[2] if possible else None

    def crowded(self, worker: int) -> tuple[int, ...]:
        """Standbys to shed, the newest first, now that sessions of this worker need more than they did."""
        return self._shed_for(worker, 0.0) if worker in self.seats else ()

    def _places(self, load: Load) -> Iterator[Place]:
        needs = load.cores(self.host_factor)
        for worker, seated in self.seats.items():
            if len(seated) >= MAX_SEATS:
                continue
            if load.shadow:
                promoted = needs / SHADOW_SHARE
                if self.cores(worker) + needs <= STANDBY_FULL_AT and promoted <= WHOLE_CORE:
                    yield Place(worker)
                continue
            firm = self._firm(worker)
            if firm + needs <= FULL_AT or (not firm and needs <= WHOLE_CORE):
                yield Place(worker, self._shed_for(worker, needs))

    def _firm(self, worker: int) -> float:
        return sum(load.cores(self.host_factor) for load in self.seats[worker].values() if not load.shadow)

    def _shed_for(self, worker: int, needs: float) -> tuple[int, ...]:
        over = self.cores(worker) + needs - STANDBY_FULL_AT
        shed = []
        for number, load in reversed(self.seats[worker].items()):
            if over <= 0:
                break
            if load.shadow and not load.refused:
                shed.append(number)
                over -= load.cores(self.host_factor)
        return tuple(shed)

    def calibrated(self, picture_ms: float) -> None:
        """A worker measured the reference picture."""
        self.host_factor = self._calibrated = _bounded(picture_ms / CALIBRATION_MS)

    def observed(self, frame_took_ms: float, codec: Codec, pixels: int) -> None:
        """An inter frame was decoded and encoded, at the governor's first level, in so many milliseconds."""
        self._observed = True
        seen = _bounded(frame_took_ms / elapsed_ms(codec, pixels, Host(1.0, self.picture_cores)))
        self.host_factor += LIVE_WEIGHT * (seen - self.host_factor)

    def relax(self) -> None:
        """Once every few seconds: without frames to tell better, the host is again what calibration found.

        Else a busy hour that ended would refuse every stream, and so never be found to have ended.
        """
        if not self._observed:
            self.host_factor += RELAX_WEIGHT * (self._calibrated - self.host_factor)
        self._observed = False


def _bounded(factor: float) -> float:
    low, high = HOST_FACTORS
    return min(max(factor, low), high)
