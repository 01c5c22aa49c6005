"""Which files are models, what they say, and that an id always means the same bytes."""

import hashlib
import json
from collections.abc import Callable
from typing import Any

import pytest
from auralink_aicore.features import NAMES, Look, Window
from auralink_aicore.model import PACKAGED, BadModelError, Model, StreamCurves, model_hash, packaged, read
from auralink_aicore.model.file import canonical

from tests.unit.aicore import models

NAME = "auralink-q-9.0.0.json"


def test_the_packaged_model_has_the_bytes_that_its_id_was_given_to() -> None:
    """A changed file needs a new id: bridges and logs know a model by its id alone."""
    ids = json.loads((PACKAGED.parent / "ids.json").read_text())
    assert ids[packaged().id] == hashlib.sha256(PACKAGED.read_bytes()).hexdigest() == packaged().sha256


def test_the_packaged_model_knows_the_medians_of_every_codec() -> None:
    assert set(packaged().curves) == {"H264", "H265", "VP8", "VP9", "AV1"}
    assert packaged().curves["H264"].ceiling(3.0) == 23.0


def test_the_model_hash_is_javas_string_hash() -> None:
    assert [model_hash(text) for text in ("a", "hello", "polygenelubricants")] == [97, 99162322, 1 << 31]


def test_canonical_bytes_do_not_depend_on_the_order_that_things_were_put_in() -> None:
    assert canonical({"b": [1, 2.5], "a": {}}) == b'{"a":{},"b":[1,2.5]}\n'
    with pytest.raises(ValueError, match="JSON"):
        canonical({"a": float("nan")})


def change(act: Callable[[dict[str, Any]], object]) -> bytes:
    content = models.content()
    act(content)
    return canonical(content)


def curve(content: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = content["curves"]["H264"]
    return found


def learned(content: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = content["learned"]["H264"]
    return found


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "no JSON"),
        (b"[" * 100_000, "no JSON"),
        (b"[]\n", "not canonical"),
        (json.dumps(models.content()).encode(), "not canonical"),
        (b"{}\n" + b" " * (8 << 20), "more than"),
        (change(lambda c: c.update(schema=2)), "schema is 2"),
        (change(lambda c: c.update(features=list(NAMES[1:]))), "features"),
        (change(lambda c: c.update(curves={}, learned={})), "no curves"),
        (change(lambda c: c.pop("learned")), "no object 'learned'"),
        (change(lambda c: c["curves"].pop("H264")), "no curve of"),
        (change(lambda c: curve(c).pop("k")), "needs exactly"),
        (change(lambda c: curve(c).update(k=0)), "k is 0"),
        (change(lambda c: curve(c).update(k="8")), "k is '8'"),
        (change(lambda c: curve(c).update(lowest_q=60)), "lowest_q"),
        (change(lambda c: curve(c).update(losses=[1, 2])), "a ceiling for each"),
        (change(lambda c: curve(c).update(losses=[1, 3, 2, 5, 8])), "does not rise"),
        (change(lambda c: learned(c).update(candidates=[20])), "1 candidates"),
        (change(lambda c: learned(c).update(candidates=list(range(99)))), "at most 32"),
        (change(lambda c: learned(c).update(moves=-1)), "moves is -1"),
        (change(lambda c: learned(c).pop("loss")), "no list 'loss'"),
        (change(lambda c: learned(c).update(loss=[])), "0 trees"),
        (change(lambda c: learned(c).update(loss=[models.tree(0, 1)] * 1001)), "1001 trees"),
        (change(lambda c: learned(c)["loss"][0].update(feature=[13])), "feature that there is not"),
        (change(lambda c: learned(c)["loss"][0].update(strikes=[4])), "leaves that there are not"),
        (change(lambda c: learned(c)["loss"][0].update(value=[1.0])), "1 nodes and 1 leaves"),
        (change(lambda c: learned(c)["loss"][0].update(value=[1.0, "x"])), "no number"),
        (change(lambda c: learned(c)["loss"].append(7)), "without a list"),
    ],
)
def test_a_file_that_is_no_model_is_refused_with_the_reason(data: bytes, reason: str) -> None:
    with pytest.raises(BadModelError, match=reason):
        read(NAME, data)


@pytest.mark.parametrize("name", ["model.json", "auralink-q-1.json", "auralink-q-1.0.0", "x/auralink-q-1.0.0.json"])
def test_a_file_that_is_not_called_as_a_model_is_refused(name: str) -> None:
    with pytest.raises(BadModelError, match="it is called"):
        read(name, canonical(models.content()))


def asked(model: Model, frames: int = 15) -> Window:
    window = Window()
    for _ in range(frames):
        window.take(4000, Look(1.0, 0.1, 40.0, 5.0), key=False, q=27, psnr=38.0)
    return window


class TestPrediction:
    def test_it_says_loss_and_bytes_at_every_quantiser(self) -> None:
        model = models.made(loss_below=1.0, loss_above=6.0)
        found = model.learned["H264"].predict(asked(model), 30, 1280 * 720)
        assert [found.loss_at(q) for q in (10, 26, 27, 28, 51)] == [1.0, 1.0, 3.5, 6.0, 6.0]
        assert [found.ln_ratio_at(q) for q in (10, 27, 51)] == [0.0, -models.SPAN / 2, -models.SPAN]

    @pytest.mark.parametrize(("loss", "q"), [(0.5, 18.0), (1.0, 26.0), (3.5, 27.0), (6.0, 37.0), (9.0, 37.0)])
    def test_the_ceiling_is_where_the_loss_allowed_is_reached(self, loss: float, q: float) -> None:
        model = models.made(loss_below=1.0, loss_above=6.0)
        assert model.learned["H264"].predict(asked(model), 30, 1280 * 720).ceiling(loss) == pytest.approx(q)

    def test_loss_rises_with_q_whatever_was_learned(self) -> None:
        model = models.made(loss_below=6.0, loss_above=-2.0)
        found = model.learned["H264"].predict(asked(model), 30, 1280 * 720)
        assert found.loss.tolist() == [6.0] * 8

    def test_a_streams_bytes_go_through_where_it_stands(self) -> None:
        model = models.made()
        found = model.learned["H264"].predict(asked(model), 30, 1280 * 720)
        curves = StreamCurves(found, q=27.0, byte_rate=1000.0)
        assert curves.bytes_at(27.0) == 1000.0
        assert curves.bytes_at(20.0) > 1000.0 > curves.bytes_at(30.0)
