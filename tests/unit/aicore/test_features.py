"""What a window says of pictures that are known."""

import math
import struct

import numpy as np
import pytest
from auralink_aicore.features import FRAMES, NAMES, Eye, Look, Window, motion_of, quantiser_of

FLAT = np.full((72, 128), 100, np.uint8)
NOTHING = Look(difference=0.0, changed=0.0, spread=0.0, gradient=0.0)


def named(window: Window, name: str, fps: float = 30.0, pixels: int = 1000, q: float = 20.0) -> float:
    return float(window.features(fps, pixels, [q], 0.5)[0, NAMES.index(name)])


class TestEye:
    def test_a_flat_picture_has_nothing_in_it(self) -> None:
        assert Eye().look(FLAT).spread == 0.0
        assert Eye().look(FLAT).gradient == 0.0

    def test_the_first_picture_differs_from_none(self) -> None:
        assert Eye().look(FLAT).difference == 0.0

    def test_a_brighter_picture_differs_by_as_much_everywhere(self) -> None:
        eye = Eye()
        eye.look(FLAT)
        look = eye.look(FLAT + np.uint8(10))
        assert (look.difference, look.changed) == (10.0, 1.0)

    def test_noise_below_the_threshold_is_no_change(self) -> None:
        eye = Eye()
        eye.look(FLAT)
        look = eye.look(FLAT - np.uint8(4))
        assert (look.difference, look.changed) == (4.0, 0.0)

    def test_half_a_picture_that_moves_is_half_changed(self) -> None:
        eye, moved = Eye(), FLAT.copy()
        moved[:, 64:] += 50
        eye.look(FLAT)
        look = eye.look(moved)
        assert (look.difference, look.changed, look.spread) == (25.0, 0.5, 25.0)

    def test_stripes_a_pixel_wide_have_the_steepest_gradient(self) -> None:
        stripes = np.zeros((72, 128), np.uint8)
        stripes[:, 1::2] = 255
        assert Eye().look(stripes).gradient == 255.0

    def test_a_picture_of_another_size_is_not_compared(self) -> None:
        eye = Eye()
        eye.look(FLAT)
        assert eye.look(np.zeros((36, 64), np.uint8)).difference == 0.0

    def test_without_side_data_the_senders_choices_are_unknown(self) -> None:
        look = Eye().look(FLAT)
        assert all(math.isnan(value) for value in (look.sender_q, look.motion, look.vectors))


class TestSideData:
    def test_the_quantiser_is_the_pictures_and_its_blocks_mean(self) -> None:
        head = struct.pack("=I4xQQii", 2, 64, 20, 1, 26).ljust(64, b"\0")
        blocks = struct.pack("=10i", 0, 0, 16, 16, 4, 16, 0, 16, 16, 8)
        assert quantiser_of(head + blocks) == 32.0
        assert quantiser_of(head[:8] + head[8:]) == 26.0  # says two blocks, has none
        assert math.isnan(quantiser_of(b""))

    def test_motion_is_the_mean_length_in_pixels(self) -> None:
        vectors = b"".join(
            struct.pack("<iBBhhhh2xQiiH6x", -1, 16, 16, 0, 0, 0, 0, 0, x, y, 4) for x, y in ((12, 16), (0, 0))
        )
        assert motion_of(vectors) == (2.5, 2)
        assert motion_of(b"")[1] == 0


class TestWindow:
    def test_it_is_full_after_half_a_second_and_forgets_what_was_before(self) -> None:
        window = Window()
        for _ in range(FRAMES):
            assert not window.full
            window.take(1000, NOTHING, key=False)
        for _ in range(FRAMES):
            window.take(125, NOTHING, key=False)
        assert window.full
        assert named(window, "ln_bits_per_pixel") == 0.0

    def test_a_keys_size_does_not_count(self) -> None:
        window = Window()
        window.take(50_000, NOTHING, key=True)
        window.take(100, NOTHING, key=False)
        window.take(300, NOTHING, key=False)
        assert named(window, "ln_bits_per_pixel") == pytest.approx(math.log(1.6))
        assert named(window, "size_variation") == 0.5

    def test_psnr_is_taken_from_where_the_stream_stands_to_each_candidate(self) -> None:
        window = Window()
        window.take(100, NOTHING, key=False, q=20, psnr=40)
        window.take(100, NOTHING, key=False, q=24, psnr=38)
        rows = window.features(30, 1000, [18, 22, 26], 0.5)
        assert rows[:, NAMES.index("psnr")].tolist() == [41.0, 39.0, 37.0]
        assert rows[:, NAMES.index("q")].tolist() == [18, 22, 26]

    def test_what_is_not_known_is_nan(self) -> None:
        window = Window()
        window.take(100, NOTHING, key=False)
        assert math.isnan(named(window, "psnr"))
        assert math.isnan(named(window, "sender_q"))
        assert not math.isnan(named(window, "difference"))
