"""Sessions: who is logged in, for how long, and what ends it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from shim.sessions import MOST_PER_USER, SEEN_SECONDS, Session, Sessions
from shim.state import State

IDLE, LONGEST = 3600.0, 10 * 3600.0


@dataclass
class Clock:
    """A clock that tests move."""

    time: float = 1_000_000.0

    def __call__(self) -> float:
        return self.time


@dataclass
class Site:
    """Sessions with what is around them."""

    state: State
    clock: Clock
    sessions: Sessions

    def rows(self) -> int:
        return int(self.state.read("SELECT count(*) FROM sessions")[0][0])


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    """A site where nobody is logged in."""
    clock = Clock()
    state = State(tmp_path)
    yield Site(state, clock, Sessions(state, IDLE, LONGEST, clock))
    state.close()


def test_an_id_stands_for_its_user_until_it_is_ended(site: Site) -> None:
    session_id = site.sessions.start("ada", "print")
    assert site.sessions.user_of(session_id) == Session("ada", "print")
    other = site.sessions.start("ada", "print")
    site.sessions.end(session_id)
    site.sessions.end(session_id)
    assert site.sessions.user_of(session_id) is None
    assert site.sessions.user_of(other) == Session("ada", "print")


def test_ids_are_long_and_never_the_same(site: Site) -> None:
    ids = {site.sessions.start("ada", "") for _ in range(50)}
    assert len(ids) == 50
    assert {len(session_id) for session_id in ids} == {43}


def test_the_file_holds_no_id(site: Site, tmp_path: Path) -> None:
    session_id = site.sessions.start("ada", "print")
    site.sessions.user_of(session_id)
    stored = b"".join(path.read_bytes() for path in tmp_path.iterdir())
    assert b"ada" in stored
    assert session_id.encode() not in stored


def test_sessions_survive_a_restart(site: Site, tmp_path: Path) -> None:
    session_id = site.sessions.start("ada", "print")
    site.state.close()
    state = State(tmp_path)
    assert Sessions(state, IDLE, LONGEST, site.clock).user_of(session_id) == Session("ada", "print")
    state.close()


def test_a_session_ends_when_nobody_comes(site: Site) -> None:
    session_id = site.sessions.start("ada", "")
    site.clock.time += IDLE - 1
    assert site.sessions.user_of(session_id)
    site.clock.time += IDLE - 1
    assert site.sessions.user_of(session_id)
    site.clock.time += IDLE
    assert site.sessions.user_of(session_id) is None
    assert site.rows() == 0


def test_every_session_ends_in_the_end(site: Site) -> None:
    session_id = site.sessions.start("ada", "")
    while site.clock.time < 1_000_000 + LONGEST - 60:
        site.clock.time += 60
        assert site.sessions.user_of(session_id)
    site.clock.time = 1_000_000 + LONGEST
    assert site.sessions.user_of(session_id) is None


def test_visits_are_written_at_most_once_a_minute(site: Site) -> None:
    session_id = site.sessions.start("ada", "")
    changes = "SELECT total_changes()"
    before = site.state.read(changes)
    for _ in range(30):
        site.clock.time += (SEEN_SECONDS - 1) / 30
        site.sessions.user_of(session_id)
    assert site.state.read(changes) == before
    site.clock.time += 1
    site.sessions.user_of(session_id)
    site.sessions.user_of(session_id)
    assert site.state.read(changes) == [(before[0][0] + 1,)]


def test_asking_need_not_be_a_visit(site: Site) -> None:
    session_id = site.sessions.start("ada", "")
    site.clock.time += IDLE - 1
    assert site.sessions.user_of(session_id, visit=False)
    site.clock.time += 1
    assert site.sessions.user_of(session_id, visit=False) is None
    assert site.rows() == 0


def test_a_visit_that_cannot_be_noted_is_a_visit_all_the_same(site: Site) -> None:
    session_id = site.sessions.start("ada", "")
    site.state.write("PRAGMA query_only = 1")
    site.clock.time += 2 * SEEN_SECONDS
    assert site.sessions.user_of(session_id)


def test_a_clock_that_was_set_back_makes_no_session_immortal(site: Site) -> None:
    session_id = site.sessions.start("ada", "")
    site.clock.time -= 5 * IDLE
    assert site.sessions.user_of(session_id)
    site.clock.time += IDLE
    assert site.sessions.user_of(session_id) is None


def test_of_many_sessions_of_a_user_the_oldest_end(site: Site) -> None:
    bob = site.sessions.start("bob", "")
    ids = []
    for _ in range(MOST_PER_USER + 3):
        site.clock.time += 1
        ids.append(site.sessions.start("ada", ""))
    assert [site.sessions.user_of(one) is not None for one in ids] == [False] * 3 + [True] * MOST_PER_USER
    assert site.sessions.user_of(bob)


def test_what_has_expired_is_forgotten_at_the_next_login(site: Site) -> None:
    for name in ("ada", "bob", "eve"):
        site.sessions.start(name, "")
    site.clock.time += IDLE
    site.sessions.start("dan", "")
    assert site.rows() == 1
    site.clock.time += IDLE
    site.sessions.purge()
    assert site.rows() == 0


@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.text())
def test_no_other_text_is_a_session(site: Site, text: str) -> None:
    site.sessions.start("ada", "")
    assert site.sessions.user_of(text) is None


@pytest.mark.parametrize("text", ["", "x" * 100_000, "' OR 1=1 --", "\0", "\ud800", "%"])
def test_hostile_ids_are_no_sessions(site: Site, text: str) -> None:
    site.sessions.start("ada", "")
    assert site.sessions.user_of(text) is None
    site.sessions.end(text)
    assert site.rows() == 1
