"""What the learned model says of one stream; `transcoder` shows it every picture, and asks once in a while.

Costs nothing where nothing was learned of the codec. `hack.train` looks at pictures through `look_at`, too.
"""

import math
from typing import TYPE_CHECKING, cast

import numpy as np
from av.video.frame import VideoFrame

from auralink_aicore.features import FRAMES, Eye, Look, Window
from auralink_aicore.model import Learned, Model, Prediction

if TYPE_CHECKING:
    from typing_extensions import Buffer


class Insight:
    """One stream's window, and the model it is shown to."""

    def __init__(self, model: Model, codec: str, *, screen: bool = False) -> None:
        """Nothing was learned of a shared `screen`, whatever its codec."""
        self.model = model
        self._next: Model | None = None
        self._codec = codec
        self._screen = screen
        self._eye, self._window = Eye(), Window()
        self._look: Look | None = None
        self._since = 0  # pictures since the model was last asked
        self.prediction: Prediction | None = None

    @property
    def learned(self) -> Learned | None:
        """What the model knows of this codec beyond its medians."""
        return None if self._screen else self.model.learned.get(self._codec)

    def use(self, model: Model) -> None:
        """Another model, from the next window on."""
        self._next = model

    def see(self, picture: VideoFrame, sender_q: float = math.nan) -> None:
        """A picture of the sender's came out of the decoder. `sender_q`: by its frame's header."""
        self._look = look_at(self._eye, picture, sender_q) if self.learned else None

    def take(self, source_bytes: int, *, key: bool, q: float = math.nan, psnr: float | None = None) -> bool:
        """What became of that picture: q and PSNR of ours, if we coded it. Whether a window is through.

        A key's quantiser and quality are not those of the pictures around it, whoever sent it.
        """
        if self._look is not None:
            known = {} if key or psnr is None else {"q": q, "psnr": psnr}
            self._window.take(source_bytes, self._look, key=key, **known)
        self._since += 1
        return self._since >= FRAMES

    def turn(self) -> Model | None:
        """A new window begins: the model to change to, if there is one."""
        self._since = 0
        changed, self._next = self._next, None
        if changed is not None:
            self.model, self.prediction, self._window = changed, None, Window()
        return changed

    def ask(self, fps: float, pixels: int) -> Prediction | None:
        """Of the half second to come; None before enough was seen, and where nothing was learned."""
        learned = self.learned
        if learned is None or not self._window.full or fps <= 0 or not pixels:
            return None
        self.prediction = learned.predict(self._window, fps, pixels)
        return self.prediction


def look_at(eye: Eye, picture: VideoFrame, sender_q: float = math.nan) -> Look:
    """`Eye.look` of a decoded picture, and of what its decoder said of the sender's choices."""
    plane = picture.planes[0]
    rows = np.frombuffer(memoryview(cast("Buffer", plane)), np.uint8).reshape(-1, plane.line_size)
    luma = rows[: picture.height, : picture.width]
    return eye.look(luma, _side(picture, "VIDEO_ENC_PARAMS"), _side(picture, "MOTION_VECTORS"), sender_q)


def _side(picture: VideoFrame, name: str) -> memoryview:
    data = picture.side_data.get(name)
    return memoryview(b"" if data is None else cast("Buffer", data))
