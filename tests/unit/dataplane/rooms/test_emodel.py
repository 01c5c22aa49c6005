"""The E-model gives the numbers that its recommendations print."""

import math

import pytest
from auralink_dataplane.rooms import emodel
from auralink_dataplane.rooms.emodel import G711, OPUS, Codec
from hypothesis import given
from hypothesis import strategies as st

G729A = Codec(11, 19.0, 25.0)  # with VAD, G.113 Table I.3
G7231 = Codec(15, 16.1, 37.5)  # 6.3 kbit/s with VAD


def test_the_default_values_make_93_2() -> None:
    """G.107 clause 7.7: all default values, no delay, no loss."""
    assert round(emodel.rating(loss_percent=0, delay_ms=0, codec=G711), 1) == 93.2
    assert round(emodel.mos(loss_percent=0, delay_ms=0, codec=G711), 2) == 4.41


def test_the_constants_follow_from_the_default_values() -> None:
    """(7-2) to (7-17) with Table 2: SLR 8, RLR 2, STMR 15, LSTR 18, D 3, TELR 65, qdu 1, Nc -70, Nfor -64, P 35."""
    slr, rlr, stmr, lstr, side, telr, qdu, nc, nfor, room = 8.0, 2.0, 15.0, 18.0, 3.0, 65.0, 1.0, -70.0, -64.0, 35.0
    olr = slr + rlr
    nos = room - slr - side - 100 + 0.004 * (room - olr - side - 14) ** 2
    pre = room + 10 * math.log10(1 + 10 ** ((10 - lstr) / 10))
    nor = rlr - 121 + pre + 0.008 * (pre - 35) ** 2
    no = 10 * math.log10(sum(10 ** (one / 10) for one in (nc, nos, nor, nfor + rlr)))
    ro = 15 - 1.5 * (slr + no)
    x = (olr + 0.2 * (64 + no - rlr)) / 8
    iolr = 20 * ((1 + x**8) ** (1 / 8) - x)
    stmro = -10 * math.log10(10 ** (-stmr / 10) + 10 ** (-telr / 10))
    ist = (
        12 * (1 + ((stmro - 13) / 6) ** 8) ** (1 / 8)
        - 28 * (1 + ((stmro + 1) / 19.4) ** 35) ** (1 / 35)
        - 13 * (1 + ((stmro - 3) / 33) ** 13) ** (1 / 13)
        + 29
    )
    q = 37 - 15 * math.log10(qdu)
    g = 1.07 + 0.258 * q + 0.0602 * q * q
    iq = 15 * math.log10(1 + 10 ** ((ro - 100) / 15 + 46 / 8.4 - g / 9) + 10 ** (46 / 30 - g / 40))
    assert ro == pytest.approx(emodel.R0, abs=0.001)
    assert iolr + ist + iq == pytest.approx(emodel.IS, abs=0.001)


@pytest.mark.parametrize(("r", "mos"), [(90, 4.34), (80, 4.03), (70, 3.60), (60, 3.10), (50, 2.58), (100, 4.5), (0, 1)])
def test_the_table_of_annex_b(r: float, mos: float) -> None:
    assert emodel.mos_of(r) == pytest.approx(mos, abs=0.01)


@pytest.mark.parametrize(
    ("codec", "loss", "published"),
    [
        *(
            (G729A, loss, ie)
            for loss, ie in ((0, 11), (0.5, 13), (1, 15), (1.5, 17), (2, 19), (3, 23), (4, 26), (8, 36))
        ),
        *((G7231, loss, ie) for loss, ie in ((0, 15), (0.5, 17), (1, 19), (1.5, 22), (2, 24), (3, 27), (8, 41))),
        *((G711, loss, ie) for loss, ie in ((0, 0), (2, 7), (3, 10), (5, 15), (7, 20))),
    ],
)
def test_loss_costs_what_g113_printed_before_there_was_a_formula(codec: Codec, loss: float, published: float) -> None:
    """G.113 Appendix I (09/1999), tables of Ie under random loss; they were read off curves, in whole points."""
    assert emodel.equipment(codec, loss) == pytest.approx(published, abs=1.0)


@pytest.mark.parametrize("delay_ms", [25, 50, 100, 150, 177, 200, 250, 300])
def test_delay_costs_what_cole_and_rosenbluth_fitted(delay_ms: float) -> None:
    """ "Voice over IP performance monitoring", ACM CCR 31(2), 2001: 0.024 d + 0.11 (d - 177.3) H(d - 177.3), read off
    G.107 with its default echo. Two lines for a curve: they are furthest apart at the corner."""
    fitted = 0.024 * delay_ms + (0.11 * (delay_ms - 177.3) if delay_ms > 177.3 else 0)
    assert emodel.delay(delay_ms) == pytest.approx(fitted, abs=1.1)


def test_bursts_cost_more_than_the_same_loss_at_random() -> None:
    random = emodel.equipment(OPUS, 5)
    assert emodel.equipment(OPUS, 5, burst_ratio=2) > random
    assert emodel.equipment(OPUS, 5, burst_ratio=0.5) == random


def test_opus_is_about_as_good_as_g711_and_loses_more_to_loss() -> None:
    clean = [emodel.mos(loss_percent=0, delay_ms=50, codec=one) for one in (OPUS, G711)]
    assert 0 < clean[1] - clean[0] < 0.1
    assert emodel.equipment(OPUS, 5) > emodel.equipment(G711, 5)


def test_one_way_delay_has_half_the_round_trip_the_jitter_buffer_and_the_codec() -> None:
    assert emodel.mouth_to_ear_ms(100, 10, OPUS) == 50 + 20 + 26.5


FIGURES = st.floats(allow_nan=True, allow_infinity=True)


@given(loss=FIGURES, delay=FIGURES, burst=st.floats(1, 100))
def test_any_figure_gives_a_mos(loss: float, delay: float, burst: float) -> None:
    assert 1 <= emodel.mos(loss_percent=loss, delay_ms=delay, burst_ratio=burst) <= 4.5


@given(loss=st.floats(0, 99), delay=st.floats(0, 10_000), more=st.floats(0, 1))
def test_more_loss_or_delay_is_never_better(loss: float, delay: float, more: float) -> None:
    here = emodel.mos(loss_percent=loss, delay_ms=delay)
    assert emodel.mos(loss_percent=loss + more, delay_ms=delay) <= here + 1e-9
    assert emodel.mos(loss_percent=loss, delay_ms=delay + 1000 * more) <= here + 1e-9
