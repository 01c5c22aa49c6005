"""What the AI Core can be told, parsed once from the environment's variables; `__main__` reads them."""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

USAGE = """\
usage: python -m auralink_aicore

The reference AI Core: recompresses encoded video frames over gRPC. Told by environment variables:

  AICORE_LISTEN      host:port of the gRPC server ([::]:50051, both families)
  AICORE_HTTP_PORT   port of /health and /metrics on the same host (9090)
  AICORE_WORKERS     codec processes, 1 to 64 (one per usable core; from four cores up one less)
  AICORE_TLS_DIR     folder with tls.crt and tls.key; with ca.crt too, clients need a certificate (unset: plaintext)
  AICORE_MODEL       model file auralink-q-<version>.json, or a folder, whose newest version is taken (the packaged
                     one); SIGHUP looks again
  AICORE_EVIDENCE    off, psnr (a report per room on /evidence, which names rooms to whoever reaches the port) or
                     vmaf (samples of sessions are scored too, when the processor has nothing else to do) (off)
  AICORE_FFMPEG      FFmpeg with libvmaf, for vmaf; without libvmaf samples get PSNR and SSIM only (ffmpeg)

A port of 0 takes a free one; the log line "serving" says which.
"""


class Evidence(StrEnum):
    """What is told of pictures, beside the histogram of PSNR, which costs nothing: encoders know it."""

    OFF = "off"
    PSNR = "psnr"
    VMAF = "vmaf"


MAX_WORKERS = 64
PICTURE_CORES = 2  # for large pictures of the dear codecs; more bring nothing at these sizes


class SettingsError(ValueError):
    """Every mistake found; the operator's to mend."""

    def __init__(self, problems: list[str]) -> None:
        super().__init__("; ".join(problems))
        self.problems = problems


@dataclass(frozen=True, slots=True)
class Settings:
    """One AI Core's settings."""

    listen: str
    http_port: int
    workers: int
    picture_cores: int  # that may work on one picture
    tls_dir: Path | None
    model: Path | None = None  # None for the packaged one
    evidence: Evidence = Evidence.OFF
    ffmpeg: str = "ffmpeg"


def from_env(env: Mapping[str, str], usable_cores: int) -> Settings:
    """Raises SettingsError with all problems at once."""
    problems: list[str] = []
    listen = env.get("AICORE_LISTEN") or "[::]:50051"  # gRPC takes it for IPv4 where there is no IPv6
    host, _, port = listen.rpartition(":")
    if not host or not _is_number(port, 0, 65535):
        problems.append(f"AICORE_LISTEN is {listen!r}, expected host:port with a port from 0 to 65535")
    # One core of a larger machine is left for the front and the network.
    workers = usable_cores - 1 if usable_cores >= 4 else usable_cores
    tls_dir = Path(env["AICORE_TLS_DIR"]) if env.get("AICORE_TLS_DIR") else None
    settings = Settings(
        listen=listen,
        http_port=_number(env, "AICORE_HTTP_PORT", 9090, 0, 65535, problems),
        workers=_number(env, "AICORE_WORKERS", min(max(workers, 1), MAX_WORKERS), 1, MAX_WORKERS, problems),
        picture_cores=min(usable_cores, PICTURE_CORES),
        tls_dir=tls_dir,
        model=Path(env["AICORE_MODEL"]) if env.get("AICORE_MODEL") else None,
        evidence=_evidence(env, problems),
        ffmpeg=env.get("AICORE_FFMPEG") or "ffmpeg",
    )
    if problems:
        raise SettingsError(problems)
    return settings


def _evidence(env: Mapping[str, str], problems: list[str]) -> Evidence:
    text = env.get("AICORE_EVIDENCE") or Evidence.OFF
    if text not in {one.value for one in Evidence}:
        problems.append(f"AICORE_EVIDENCE is {text!r}, expected {', '.join(Evidence)}")
        return Evidence.OFF
    return Evidence(text)


def _number(env: Mapping[str, str], name: str, default: int, low: int, high: int, problems: list[str]) -> int:
    text = env.get(name)
    if not text:
        return default
    if not _is_number(text, low, high):
        problems.append(f"{name} is {text!r}, expected a number from {low} to {high}")
        return default
    return int(text)


def _is_number(text: str, low: int, high: int) -> bool:
    # No number here has ten digits; int() itself refuses thousands of them.
    return text.isascii() and text.isdigit() and len(text) < 10 and low <= int(text) <= high
