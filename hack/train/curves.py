"""What is known of codecs before anything is measured: medians over 12 to 14 streams each, 270p to 720p, 350 to 2500
kb/s. A model file has the ceilings that `report.medians` finds instead, and takes the rest from here.
"""

from collections.abc import Mapping
from types import MappingProxyType

from auralink_aicore.controller import Curve

_LOSSES = (1.0, 2.0, 3.0, 5.0, 8.0)

CURVES: Mapping[str, Curve] = MappingProxyType(
    {
        "H264": Curve(8.66, 16, 51, 28.0, _LOSSES, (22.0, 25.0, 27.0, 30.0, 33.0)),  # CRF
        "H265": Curve(8.7, 14, 51, 25.0, _LOSSES, (19.0, 23.0, 25.0, 28.0, 30.0)),  # QP
        "VP8": Curve(23.5, 4, 63, 28.0, _LOSSES, (12.0, 21.0, 28.0, 37.0, 42.0)),  # these three on the libraries' 0..63
        "VP9": Curve(18.6, 4, 63, 24.0, _LOSSES, (13.0, 21.0, 26.0, 31.0, 36.0)),
        "AV1": Curve(17.9, 4, 63, 24.0, _LOSSES, (13.0, 20.0, 24.0, 29.0, 34.0)),
    }
)
