"""The arithmetic of "never two at once", on traces of pauses and delays that nobody would write down."""

from __future__ import annotations

import math

from hypothesis import given
from hypothesis import strategies as st

from hetuflow.scheduler.trust import BEATS_PER_LOSS, LOOK_SHARE, QUIET_BEATS, Timing, Trust, Witness

TIMING = Timing(10)
WINDOW = TIMING.window_seconds
BEAT = TIMING.beat_seconds

delays = st.one_of(st.just(0.0), st.floats(0, 0.2), st.floats(0, 40))


def test_what_follows_from_the_silence_that_is_allowed() -> None:
    assert (BEAT, WINDOW) == (2.0, 6.0)
    assert 2 * BEAT < WINDOW < TIMING.lost_seconds


@given(st.lists(st.tuples(delays, delays), max_size=40))
def test_trust_is_valid_exactly_while_a_confirmed_beat_is_young(beats: list[tuple[float, float]]) -> None:
    trust, now, confirmed = Trust(WINDOW), 0.0, -math.inf
    assert not trust.is_valid(now)
    for pause, way in beats:
        now += pause
        sent, now = now, now + way
        expected_since = trust.valid_since(now) if now < confirmed + WINDOW else now
        trust.confirmed(sent, now)
        confirmed = max(confirmed, sent)
        for moment in (now, confirmed + WINDOW - 1e-6, confirmed + WINDOW):
            assert trust.is_valid(moment) == (moment < confirmed + WINDOW)
        if trust.is_valid(now):
            assert trust.valid_since(now) == expected_since


@given(st.lists(st.tuples(delays, delays), min_size=1, max_size=20))
def test_trust_that_was_revoked_never_comes_back(beats: list[tuple[float, float]]) -> None:
    trust, now = Trust(WINDOW), 0.0
    trust.confirmed(0.0, 0.0)
    trust.revoke()
    for pause, way in beats:
        now += pause + way
        assert not trust.confirmed(now - way, now)
        assert not trust.is_valid(now)


@given(
    st.lists(st.tuples(delays, delays, delays), min_size=1, max_size=30),
    st.lists(st.tuples(delays, delays, delays), min_size=BEATS_PER_LOSS + 1, max_size=60),
    st.floats(0, 60),
)
def test_nothing_is_renewed_later_than_a_window_after_the_loss(
    beats: list[tuple[float, float, float]], looks: list[tuple[float, float, float]], first_look: float
) -> None:
    """A beats (pause, way there, way back), B looks (the same). When B calls A lost at T, A renews nothing after T + W,
    and B has looked for at least 0.95 S without a change."""
    commits: list[tuple[float, float, float]] = []
    now = 0.0
    for pause, there, back in beats:
        sent = now + pause
        commits.append((sent, sent + there, sent + there + back))
        now = max(sent + BEAT, sent + there + back)
    witness, now, changed, last = Witness(BEAT), first_look, None, None
    lost_at = None
    for pause, there, back in looks:
        sent = now + pause
        counter = sum(committed <= sent + there for _, committed, _ in commits) or None
        if counter != last:
            changed, last = sent, counter
        witness.looked(counter, sent)
        now = max(sent + BEAT, sent + there + back)
        if witness.is_lost:
            lost_at = sent + there + back
            break
    if lost_at is None:
        return
    assert changed is not None or last is None
    if changed is not None:
        assert sent - changed >= (BEATS_PER_LOSS - 0.5) * LOOK_SHARE * BEAT
    trust = Trust(WINDOW)
    for sent_, committed, answered in commits:
        if committed < lost_at:  # a later one shows A that it is lost
            trust.confirmed(sent_, answered)
    assert trust.deadline() <= lost_at + WINDOW


@given(st.lists(st.floats(0, 1.89), min_size=1, max_size=200))
def test_looking_often_makes_no_time_pass(pauses: list[float]) -> None:
    witness, now = Witness(BEAT), 0.0
    witness.looked(7, now)
    for pause in pauses:
        now += pause
        witness.looked(7, now)
    assert witness.silent_beats <= now / (LOOK_SHARE * BEAT)


@given(st.lists(st.integers(0, 3), min_size=1, max_size=100))
def test_one_that_counts_is_never_lost_however_slowly_it_does(steps: list[int]) -> None:
    """Its counter changes at least every fourth look; smaller counts too (the table may have been emptied)."""
    witness, counter, unchanged = Witness(BEAT), 0, 0
    for number, step in enumerate(steps):
        unchanged = unchanged + 1 if step else 0
        if not step or unchanged == BEATS_PER_LOSS - 1:
            counter, unchanged = (counter + 1 if number % 7 else 0 if counter else 1), 0
        witness.looked(counter, number * BEAT)
        assert not witness.is_lost
        assert witness.is_quiet == (witness.silent_beats > QUIET_BEATS)
