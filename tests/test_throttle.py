"""The limit of failed logins: it stops guessing, and nobody can use it against others."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shim import throttle as module
from shim.throttle import MOST_ENTRIES, PER_ADDRESS, PER_USER, WINDOW, Throttle


@dataclass
class Clock:
    """A clock that tests move."""

    time: float = 50.0

    def __call__(self) -> float:
        return self.time


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def throttle(clock: Clock) -> Throttle:
    return Throttle(now=clock)


def fail(throttle: Throttle, address: str, user: str, times: int) -> None:
    for _ in range(times):
        throttle.failed(address, user)


def test_ten_failures_as_one_user_stop_that_user_at_that_address(throttle: Throttle) -> None:
    fail(throttle, "10.0.0.1", "ada", PER_USER - 1)
    assert throttle.blocked("10.0.0.1", "ada") is None
    throttle.failed("10.0.0.1", "ada")
    assert throttle.blocked("10.0.0.1", "ada") == WINDOW
    assert throttle.blocked("10.0.0.1", "bob") is None


def test_nobody_can_lock_out_an_account_from_another_address(throttle: Throttle) -> None:
    fail(throttle, "10.0.0.1", "ada", 1000)
    assert throttle.blocked("10.0.0.1", "ada")
    assert throttle.blocked("10.0.0.2", "ada") is None


def test_fifty_failures_as_many_users_stop_the_address(throttle: Throttle) -> None:
    for number in range(PER_ADDRESS):
        assert throttle.blocked("10.0.0.1", f"user {number}") is None
        throttle.failed("10.0.0.1", f"user {number}")
    assert throttle.blocked("10.0.0.1", "somebody else") == WINDOW
    assert throttle.blocked("10.0.0.2", "somebody else") is None


def test_the_window_ends_and_says_when(throttle: Throttle, clock: Clock) -> None:
    fail(throttle, "10.0.0.1", "ada", PER_USER)
    clock.time += WINDOW - 0.5
    assert throttle.blocked("10.0.0.1", "ada") == 1
    clock.time += 0.5
    assert throttle.blocked("10.0.0.1", "ada") is None
    fail(throttle, "10.0.0.1", "ada", PER_USER - 1)
    assert throttle.blocked("10.0.0.1", "ada") is None
    assert len(throttle._windows) == 2


def test_success_forgets_the_slips_of_that_user(throttle: Throttle) -> None:
    fail(throttle, "10.0.0.1", "ada", PER_USER)
    throttle.succeeded("10.0.0.1", "ada")
    fail(throttle, "10.0.0.1", "ada", PER_USER - 1)
    assert throttle.blocked("10.0.0.1", "ada") is None


def test_an_account_of_ones_own_is_no_way_round_the_limit_of_the_address(throttle: Throttle) -> None:
    for number in range(PER_ADDRESS):
        throttle.failed("10.0.0.1", f"user {number}")
        if not throttle.blocked("10.0.0.1", "eve"):
            throttle.failed("10.0.0.1", "eve")
            throttle.succeeded("10.0.0.1", "eve")
    assert throttle.blocked("10.0.0.1", "eve")


def test_logins_that_succeed_do_not_count(throttle: Throttle) -> None:
    for number in range(10 * PER_ADDRESS):
        throttle.failed("10.0.0.1", f"user {number % 3}")
        throttle.succeeded("10.0.0.1", f"user {number % 3}")
    assert throttle.blocked("10.0.0.1", "user 0") is None
    assert throttle._windows == {}


def test_attempts_that_could_not_be_judged_do_not_count(throttle: Throttle) -> None:
    fail(throttle, "10.0.0.1", "ada", PER_USER - 1)
    for _ in range(PER_ADDRESS):
        throttle.failed("10.0.0.1", "ada")
        throttle.forgive("10.0.0.1", "ada")
    assert throttle.blocked("10.0.0.1", "ada") is None
    throttle.failed("10.0.0.1", "ada")
    assert throttle.blocked("10.0.0.1", "ada")
    throttle.forgive("1.1.1.1", "nobody")


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("2001:db8:1:2::1", "2001:db8:1:2:ffff:ffff:ffff:ffff", True),
        ("2001:db8:1:2::1", "2001:db8:1:3::1", False),
        ("fe80::1%eth0", "fe80::2%eth1", True),
        ("::ffff:10.0.0.1", "10.0.0.1", True),
        ("::ffff:10.0.0.1", "::ffff:10.0.0.2", False),
        ("10.0.0.1", "10.0.0.2", False),
        ("", "unix", False),
        ("x" * 100_000, "x" * 100_000, True),
    ],
)
def test_addresses_that_one_client_can_have_count_as_one(throttle: Throttle, one: str, other: str, same: bool) -> None:
    fail(throttle, one, "ada", PER_USER)
    assert (throttle.blocked(other, "ada") is not None) == same


def test_memory_is_bounded_and_the_newest_stay(throttle: Throttle, monkeypatch: pytest.MonkeyPatch) -> None:
    assert MOST_ENTRIES == 10_000
    monkeypatch.setattr(module, "MOST_ENTRIES", 100)
    fail(throttle, "10.0.0.1", "old", PER_USER)
    for number in range(300):
        fail(throttle, f"10.1.{number // 250}.{number % 250}", "x" * 10_000, PER_USER)
    assert len(throttle._windows) == 100
    assert throttle.blocked("10.1.1.49", "x" * 10_000)
    assert throttle.blocked("10.0.0.1", "old") is None
    assert max(len(network) + len(digest) for network, digest in throttle._windows) < 100


@settings(deadline=None)
@given(st.lists(st.tuples(st.sampled_from("fsgw"), st.sampled_from(["1.1.1.1", "2.2.2.2"]), st.sampled_from("ab"))))
def test_windows_stay_in_order_and_hold_counts_above_zero(events: list[tuple[str, str, str]]) -> None:
    clock = Clock()
    throttle = Throttle(2, 3, 10.0, clock)
    calls = {"f": throttle.failed, "s": throttle.succeeded, "g": throttle.forgive}
    for kind, address, user in events:
        if kind == "w":
            clock.time += 3
        else:
            calls[kind](address, user)
        wait = throttle.blocked(address, user)
        assert wait is None or 1 <= wait <= 10
        windows = list(throttle._windows.values())
        assert [one.began for one in windows] == sorted(one.began for one in windows)
        assert all(one.failures > 0 for one in windows)
