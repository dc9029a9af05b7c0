"""Passwords: right or wrong, in the same work for names that nobody has, and never too many at once."""

from __future__ import annotations

import threading
from typing import Any

import pytest
from argon2 import PasswordHasher, extract_parameters
from argon2.exceptions import VerificationError
from hypothesis import given, settings
from hypothesis import strategies as st

from builder.settings import User
from shim.accounts import LONGEST_PASSWORD, Accounts, BusyError

HASHER = PasswordHasher(time_cost=1, memory_cost=64, parallelism=1)
OTHER = PasswordHasher(time_cost=2, memory_cost=128, parallelism=1)


def user(name: str, password: str, hasher: PasswordHasher = HASHER) -> User:
    return User(name=name, password_hash=hasher.hash(password))


ACCOUNTS = Accounts([user("ada", "lovelace"), user("grün ß", "pässword 1"), user("long", "x" * LONGEST_PASSWORD)])


class Recording(PasswordHasher):
    """A hasher that notes which hashes it was asked about."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[str] = []

    def verify(self, hash: Any, password: Any) -> Any:
        self.seen.append(hash)
        return super().verify(hash, password)


@pytest.mark.parametrize(("name", "password"), [("ada", "lovelace"), ("grün ß", "pässword 1"), ("long", "x" * 1024)])
def test_the_right_password_is_right(name: str, password: str) -> None:
    assert ACCOUNTS.check(name, password)


@pytest.mark.parametrize(
    ("name", "password"),
    [
        ("ada", "lovelacE"),
        ("ada", "lovelace "),
        ("ada", ""),
        ("ada", "lovelace\0"),
        ("ada", "\ud800"),
        ("Ada", "lovelace"),
        ("ada ", "lovelace"),
        ("ada\0", "lovelace"),
        ("", "lovelace"),
        ("", ""),
        ("grün ß", "lovelace"),
        ("\ud800", "lovelace"),
        ("nobody", "lovelace"),
        ("long", "x" * (LONGEST_PASSWORD + 1)),
        ("long", "ü" * LONGEST_PASSWORD),
        ("x" * 1_000_000, "x" * 1_000_000),
    ],
)
def test_everything_else_is_wrong(name: str, password: str) -> None:
    assert ACCOUNTS.check(name, password) is False


@settings(deadline=None)
@given(st.text(), st.text())
def test_no_other_name_and_password_open_anything(name: str, password: str) -> None:
    assert not ACCOUNTS.check(name, password)


def test_a_name_that_nobody_has_takes_the_same_work() -> None:
    accounts = Accounts([user("ada", "1", OTHER), user("bob", "2"), user("eve", "3", OTHER)])
    recording = accounts._hasher = Recording()
    for name in ("ada", "nobody", "somebody"):
        assert not accounts.check(name, "wrong")
    assert len(recording.seen) == 3
    assert {repr(extract_parameters(one)) for one in recording.seen} == {repr(extract_parameters(recording.seen[0]))}
    assert recording.seen[1] not in accounts._hashes.values()


def test_the_password_behind_the_decoy_lets_nobody_in(monkeypatch: pytest.MonkeyPatch) -> None:
    accounts = Accounts([user("ada", "1")])
    accounts._decoy = HASHER.hash("found")
    assert not accounts.check("nobody", "found")


def test_nobody_at_all_is_no_error() -> None:
    accounts = Accounts([])
    assert not accounts
    assert not accounts.check("ada", "lovelace")
    assert accounts.fingerprint("ada") is None


def test_a_fingerprint_follows_the_password_and_does_not_hold_its_hash() -> None:
    ada, again = user("ada", "1"), user("ada", "1")
    prints = [Accounts([one]).fingerprint("ada") for one in (ada, ada, again)]
    assert prints[0] == prints[1] != prints[2]
    assert ada.password_hash not in str(prints[0])
    assert Accounts([ada]).fingerprint("Ada") is None


class Slow(PasswordHasher):
    """A hasher that ends when the test says so."""

    def __init__(self) -> None:
        super().__init__()
        self.begun = threading.Semaphore(0)
        self.go = threading.Event()

    def verify(self, hash: Any, password: Any) -> Any:
        self.begun.release()
        self.go.wait()
        return super().verify(hash, password)


def test_no_more_than_two_hashes_at_once_and_the_third_does_not_wait_for_ever() -> None:
    accounts = Accounts([user("ada", "1")], patience=0.01)
    slow = accounts._hasher = Slow()
    results: list[bool] = []
    threads = [threading.Thread(target=lambda: results.append(accounts.check("ada", "1"))) for _ in range(2)]
    for thread in threads:
        thread.start()
    for _ in threads:
        slow.begun.acquire()
    with pytest.raises(BusyError, match="Try again"):
        accounts.check("ada", "1")
    slow.go.set()
    for thread in threads:
        thread.join()
    assert results == [True, True]
    assert accounts.check("ada", "1"), "the turns were given back"


@pytest.mark.parametrize("error", [VerificationError("Memory allocation error"), MemoryError()])
def test_turns_are_given_back_after_an_error(error: Exception, caplog: pytest.LogCaptureFixture) -> None:
    class Broken(PasswordHasher):
        def verify(self, hash: Any, password: Any) -> Any:
            raise error

    accounts = Accounts([user("ada", "1")], patience=0.01)
    accounts._hasher = Broken()
    for _ in range(5):
        with pytest.raises((BusyError, MemoryError)):
            accounts.check("ada", "1")
    accounts._hasher = PasswordHasher()
    assert accounts.check("ada", "1")


def test_a_hash_that_cannot_be_read_is_logged_and_says_nothing_of_the_password(
    caplog: pytest.LogCaptureFixture,
) -> None:
    accounts = Accounts([User(name="ada", password_hash="$argon2id$v=19$m=64,t=1,p=1$AAA$A")])
    with pytest.raises(BusyError):
        accounts.check("ada", "secret")
    assert "could not be checked" in caplog.text
    assert "secret" not in caplog.text
