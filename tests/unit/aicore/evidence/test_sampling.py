"""Which frames are kept to be scored."""

from auralink_aicore.codecs import Codec
from auralink_aicore.evidence.sampling import EVERY_S, FEWEST, FRAMES, MOST_BYTES, Sampling


def begun(at: float = 0.0) -> Sampling:
    sampling = Sampling(Codec.VP8)
    assert sampling.wants(at, senders_key=True, our_key=True)
    sampling.begin()
    return sampling


def test_a_sample_begins_where_both_sides_do() -> None:
    sampling = Sampling(Codec.H264)
    assert not sampling.wants(0, senders_key=False, our_key=True)  # a receiver asked: the sender's cannot start here
    assert not sampling.wants(0, senders_key=True, our_key=False)
    assert sampling.wants(0, senders_key=True, our_key=True)
    assert sampling.took(0, b"a", b"b", 1.0) is None  # nothing was begun
    assert not sampling.running


def test_it_holds_so_many_pairs_in_order_and_the_next_one_waits() -> None:
    sampling = begun(10.0)
    for number in range(FRAMES - 1):
        assert sampling.took(10.0, bytes([number]), bytes([number, 1]), 2.0 if number % 2 else None) is None
    assert not sampling.wants(10.0, senders_key=True, our_key=True)
    sample = sampling.took(11.0, b"last", b"ours", 4.0)
    assert sample
    assert (len(sample.senders), sample.senders[3], sample.ours[3]) == (FRAMES, b"\3", b"\3\1")
    assert sample.predicted_loss is not None
    assert 2.0 < sample.predicted_loss < 4.0
    assert not sampling.wants(11.0 + EVERY_S - 0.1, senders_key=True, our_key=True)
    assert sampling.wants(11.0 + EVERY_S, senders_key=True, our_key=True)


def test_what_breaks_the_pairs_ends_it_and_a_short_one_is_worth_nothing() -> None:
    sampling = begun()
    for _ in range(FEWEST - 1):
        sampling.took(0, b"a", b"b", None)
    assert sampling.cut(0) is None
    assert not sampling.running
    assert sampling.cut(0) is None

    sampling = begun()
    for _ in range(FEWEST):
        sampling.took(0, b"a", b"b", None)
    sample = sampling.cut(0)
    assert sample
    assert (len(sample.ours), sample.predicted_loss) == (FEWEST, None)


def test_its_bytes_are_bounded() -> None:
    sampling, size = begun(), MOST_BYTES // 16
    found = [sampling.took(0, bytes(size // 2), bytes(size // 2), None) for _ in range(17)]
    [sample] = [one for one in found if one]
    assert sum(map(len, sample.senders + sample.ours)) <= MOST_BYTES
    assert len(sample.ours) == 16
