"""The retry schedule."""

from __future__ import annotations

import random
from datetime import timedelta

from mailhost.retry import MAX_QUEUE_AGE, retry_delay

MINUTES = [1, 5, 15, 30, 60, 120, 240, 480, 480, 480]


def test_the_delays_are_the_documented_ones_within_ten_percent() -> None:
    rng = random.Random(1)
    for attempts, minutes in enumerate(MINUTES, start=1):
        expected = timedelta(minutes=minutes)
        for _ in range(50):
            assert expected * 0.9 <= retry_delay(attempts, rng) <= expected * 1.1


def test_mails_deferred_together_do_not_come_back_together() -> None:
    rng = random.Random(1)
    assert len({retry_delay(3, rng) for _ in range(20)}) == 20


def test_the_queue_is_tried_about_twenty_times_before_it_fails() -> None:
    rng = random.Random(1)
    age, attempts = timedelta(0), 0
    while age < MAX_QUEUE_AGE:
        attempts += 1
        age += retry_delay(attempts, rng)
    assert 18 <= attempts <= 26


def test_an_attempt_count_out_of_range_is_bounded() -> None:
    rng = random.Random(1)
    assert retry_delay(0, rng) < timedelta(minutes=2)
    assert retry_delay(10**9, rng) < timedelta(hours=9)
