"""The circuit breaker: every cell of its table, and what it lets through."""

import pytest
from auralink_dataplane.media.breaker import TABLE, Breaker, Event, Limits, Permit, State


def failing(times: int, *, limits: Limits | None = None) -> Breaker:
    breaker = Breaker(limits or Limits())
    for _ in range(times):
        breaker.failed(100.0)
    return breaker


def in_state(state: State) -> Breaker:
    breaker = failing(0 if state is State.CLOSED else 5)
    if state is State.HALF_OPEN:
        breaker.rest(160.0)
    assert breaker.state is state
    return breaker


@pytest.mark.parametrize("state", list(State))
@pytest.mark.parametrize("event", [Event.FAILED, Event.PROVEN, Event.RESTED])
def test_each_event_moves_each_state_as_the_table_says(state: State, event: Event) -> None:
    breaker = in_state(state)
    match event:
        case Event.FAILED:
            breaker.failed(160.0)
        case Event.PROVEN:
            breaker.proven(160.0)
        case _:
            breaker.rest(160.0)
    assert breaker.state is TABLE.get((state, event), state)


def test_it_opens_at_the_fifth_failure_in_a_row() -> None:
    assert failing(4).state is State.CLOSED
    assert failing(5).state is State.OPEN


def test_a_success_between_starts_the_count_anew() -> None:
    breaker = failing(4)
    breaker.succeeded()
    breaker.failed(100.0)
    assert breaker.state is State.CLOSED


def test_open_lets_nothing_through_until_it_has_rested() -> None:
    breaker = failing(5, limits=Limits(open_s=5.0))
    assert breaker.permit(104.9) is Permit.NONE
    assert breaker.rests_for(104.0) == pytest.approx(1.0)
    assert breaker.permit(105.0) is Permit.PROBE


def test_half_open_lets_one_probe_through_at_a_time() -> None:
    breaker = in_state(State.HALF_OPEN)
    assert breaker.permit(160.0) is Permit.PROBE
    assert breaker.permit(160.0) is Permit.NONE
    breaker.released()
    assert breaker.permit(160.0) is Permit.PROBE


def test_a_failed_probe_opens_it_again_for_the_full_rest() -> None:
    breaker = in_state(State.HALF_OPEN)
    breaker.failed(200.0)
    assert breaker.permit(259.0) is Permit.NONE
    assert breaker.permit(260.0) is Permit.PROBE


def test_a_mere_success_does_not_close_it() -> None:
    breaker = in_state(State.HALF_OPEN)
    breaker.succeeded()
    assert breaker.state is State.HALF_OPEN
    assert breaker.proven(160.0)
    assert breaker.permit(160.0) is Permit.FULL


def test_more_failures_while_open_do_not_prolong_the_rest() -> None:
    breaker = failing(5)
    breaker.failed(150.0)
    assert breaker.permit(160.0) is Permit.PROBE
