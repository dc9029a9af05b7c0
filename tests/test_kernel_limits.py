"""Who may have a kernel when not everybody can, when kernels end, and what is kept of them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from builder.settings import Kernels as Settings
from shim.kernels.callers import Caller
from shim.kernels.caps import LONGEST_LINE, RETRY_SECONDS, Line, Room
from shim.kernels.program import Program
from shim.kernels.records import Label, Record, Records, Remains, new_id
from shim.kernels.table import LEAST_UNCONNECTED, MOST_STARTS, Table
from shim.state import State

PROGRAM = Program("a/b", "0" * 16, "python3", "python", ("x = 1", None, "x"), None)


class Clock:
    """A time that passes when a test says so."""

    now = 1000.0

    def __call__(self) -> float:
        return self.now


def record_of(number: int = 0, **fields: Any) -> Record:
    """A record of a kernel."""
    return replace(Record(f"ours-{number}", PROGRAM, "main", f"theirs-{number}", 1000.0), **fields)


def caller(number: int = 0, address: str = "192.0.2.1") -> Caller:
    return Caller("", f"visit-{number}", address)


@pytest.fixture
def clock() -> Clock:
    return Clock()


def table_of(clock: Clock, **settings: Any) -> Table:
    return Table(Settings(**settings), clock, clock)


def fill(table: Table, count: int, address: str = "192.0.2.1", first: int = 0) -> None:
    """Let that many callers in, and start their kernels."""
    for number in range(first, first + count):
        assert table.admit(caller(number, address)) == 0
        table.add(record_of(number, address=address), promised=True)


# The line


def room(total: int, **addresses: int) -> Room:
    return Room(total, lambda address: addresses.get(address, 100))


def test_callers_are_served_in_the_order_in_which_they_came() -> None:
    line = Line(10)
    assert [line.admit(key, key, room(0), 0) for key in "abc"] == [1, 2, 3]
    assert line.admit("b", "b", room(0), 1) == 2
    assert line.admit("d", "d", room(1), 1) == 4
    assert line.admit("b", "b", room(1), 1) == 2
    assert line.admit("a", "a", room(1), 1) == 0
    assert line.admit("b", "b", room(1), 2) == 0
    assert line.waiting(2) == 2


def test_whoever_does_not_come_back_loses_the_place() -> None:
    line = Line(10)
    assert [line.admit(key, key, room(0), 0) for key in "ab"] == [1, 2]
    later = 3 * RETRY_SECONDS - 1
    assert line.admit("b", "b", room(0), later) == 2
    assert line.admit("b", "b", room(0), later + 1) == 1
    assert line.waiting(later + 1) == 1


def test_callers_whose_address_has_too_many_hold_up_nobody_else() -> None:
    line = Line(10)
    assert line.admit("a", "busy", room(5, busy=0), 0) == 1
    assert line.admit("b", "other", room(1, busy=0), 0) == 0
    assert line.admit("c", "busy", room(5, busy=0), 0) == 2
    assert line.admit("c", "busy", room(5, busy=1), 0) == 2
    assert line.admit("a", "busy", room(5, busy=1), 0) == 0


def test_one_address_cannot_fill_the_line() -> None:
    line = Line(2)
    assert [line.admit(str(number), "one", room(0), 0) for number in range(5)] == [1, 2, 3, 3, 3]
    assert line.waiting(0) == 2
    line = Line(10**9)
    for number in range(LONGEST_LINE + 5):
        line.admit(str(number), "one", room(0), 0)
    assert line.waiting(0) == LONGEST_LINE


@given(
    st.lists(
        st.tuples(st.sampled_from("abcdef"), st.sampled_from("xy"), st.integers(0, 3), st.integers(0, 3)), max_size=40
    )
)
def test_nobody_is_let_in_without_room(asks: list[tuple[str, str, int, int]]) -> None:
    line = Line(10)
    for now, (key, address, total, own) in enumerate(asks):
        place = line.admit(key, address, Room(total, lambda _, own=own: own), now)
        assert place >= 0
        assert place or (total > 0 and own > 0)


# Limits


def test_no_more_kernels_run_than_there_may(clock: Clock) -> None:
    table = table_of(clock, max_total=3)
    fill(table, 2)
    assert table.admit(caller(2)) == 0
    assert [table.admit(caller(number)) for number in (3, 4, 3)] == [1, 2, 1]
    table.release("192.0.2.1")
    assert table.admit(caller(4)) == 2
    assert table.admit(caller(3)) == 0
    assert table.waiting() == 1


def test_no_address_has_more_than_it_may(clock: Clock) -> None:
    table = table_of(clock, max_total=20, max_per_address=2)
    fill(table, 2)
    assert table.admit(caller(2)) == 1
    assert table.admit(caller(3, "192.0.2.2")) == 0
    table.remove("ours-0")
    assert table.admit(caller(2)) == 0


def test_only_some_kernels_start_at_the_same_time(clock: Clock) -> None:
    table = table_of(clock, max_total=100, max_per_address=100)
    assert [table.admit(caller(number)) for number in range(MOST_STARTS)] == [0] * MOST_STARTS
    assert table.admit(caller(100)) == 1
    table.add(record_of(0, address="192.0.2.1"), promised=True)
    assert table.admit(caller(100)) == 0


def test_warm_kernels_count_and_give_way_to_readers(clock: Clock) -> None:
    table = table_of(clock, max_total=2)
    assert table.add_warm(record_of(10, warm=True))
    assert table.add_warm(record_of(11, warm=True))
    assert not table.add_warm(record_of(12, warm=True))
    assert table.admit(caller(0)) == 0
    surplus = table.surplus()
    assert surplus
    assert surplus.record.id == "ours-10"
    assert table.surplus() is None
    table.add(record_of(0), promised=True)
    assert (table.readers(), table.warm()) == (1, 0), "it is being prepared"
    table.rehearsed("ours-11", {})
    assert (table.readers(), table.warm()) == (1, 1)


def test_a_warm_kernel_is_given_to_a_reader_of_the_same_program_once_it_is_ready(clock: Clock) -> None:
    table = table_of(clock)
    table.add_warm(record_of(0, warm=True))

    def take(program: Program) -> Any:
        assert table.admit(caller()) == 0
        kernel = table.take(program, lambda record: replace(record, warm=False, address="192.0.2.1"))
        if kernel is None:
            table.release("192.0.2.1")
        return kernel

    assert take(PROGRAM) is None
    assert table.rehearsed("ours-0", {0: ()})
    assert take(replace(PROGRAM, version="1" * 16)) is None
    assert take(replace(PROGRAM, cells=("x = 2", None, "x"))) is None
    kernel = take(PROGRAM)
    assert kernel.record.id == "ours-0"
    assert table.recording("ours-0") == {0: ()}
    assert take(PROGRAM) is None
    table.restarted("ours-0")
    assert table.recording("ours-0") == {}
    assert not table.rehearsed("ours-9", {})


@pytest.mark.parametrize("state", ["restarting", "autorestarting"])
def test_what_a_kernel_said_before_it_crashed_is_not_played(clock: Clock, state: str) -> None:
    table = table_of(clock)
    table.add_warm(record_of(0, warm=True))
    recording: dict[int, Any] = {0: (), 2: ()}
    table.rehearsed("ours-0", recording)
    for usual in ("busy", "idle", "starting", ""):
        table.heard("ours-0", usual)
    assert recording == {0: (), 2: ()}
    table.heard("ours-0", state)
    # Its WebSockets hold the same one.
    assert recording == {}


# The end of kernels


def due(table: Table) -> list[str]:
    return [kernel_id for kernel_id, _ in table.due()]


def test_a_kernel_ends_some_time_after_its_last_socket_and_not_after_another(clock: Clock) -> None:
    table = table_of(clock, retention=5)
    fill(table, 1)
    assert table.attach("ours-0")
    assert table.attach("ours-0")
    table.detach("ours-0")
    clock.now += 100
    assert due(table) == []
    assert table.seconds_left() == float("inf")
    table.detach("ours-0")
    assert table.seconds_left() == 5
    clock.now += 4
    assert due(table) == []
    assert table.attach("ours-0")
    table.detach("ours-0")
    clock.now += 4
    assert due(table) == []
    clock.now += 1
    assert due(table) == ["ours-0"]


@pytest.mark.parametrize(("retention", "seconds"), [(0, LEAST_UNCONNECTED), (100, 100)])
def test_a_kernel_that_nobody_connects_to_ends(clock: Clock, retention: int, seconds: float) -> None:
    table = table_of(clock, retention=retention)
    fill(table, 1)
    clock.now += seconds - 1
    assert due(table) == []
    clock.now += 1
    assert due(table) == ["ours-0"]


def test_a_kernel_does_not_end_while_it_restarts_and_its_page_has_time_to_come_back(clock: Clock) -> None:
    table = table_of(clock, retention=1)
    fill(table, 1)
    table.attach("ours-0")
    assert table.begin_restart("ours-0")
    assert not table.begin_restart("ours-0")
    table.detach("ours-0")
    clock.now += 60
    assert (due(table), table.seconds_left()) == ([], float("inf"))
    table.end_restart("ours-0")
    assert table.seconds_left() == LEAST_UNCONNECTED
    assert table.begin_restart("ours-0")
    table.attach("ours-0")
    table.end_restart("ours-0")
    assert table.seconds_left() == float("inf")


def test_a_kernel_that_nobody_is_connected_to_ends_some_time_after_its_restart(clock: Clock) -> None:
    table = table_of(clock, retention=0)
    fill(table, 1)
    clock.now += LEAST_UNCONNECTED - 1
    assert table.begin_restart("ours-0")
    clock.now += 60
    assert due(table) == []
    table.end_restart("ours-0")
    clock.now += LEAST_UNCONNECTED
    assert due(table) == ["ours-0"]


def test_only_a_warm_kernel_can_be_taken_out_for_a_reader(clock: Clock) -> None:
    table = table_of(clock)
    fill(table, 1)
    table.add_warm(record_of(1, warm=True))
    table.add_warm(record_of(2, warm=True, gateway="other"))
    assert table.take_out_warm("ours-0") is None
    assert table.take_out_warm(at="nowhere") is None
    spare = table.take_out_warm(at="other")
    assert spare and spare.record.id == "ours-2"
    spare = table.take_out_warm("ours-1")
    assert spare and spare.record.id == "ours-1"
    assert table.take_out_warm() is None


def test_kernels_end_that_are_not_used_or_too_old(clock: Clock) -> None:
    table = table_of(clock, idle_minutes=10, max_hours=1)
    fill(table, 2)
    table.attach("ours-0")
    table.attach("ours-1")
    clock.now += 599
    table.heard("ours-1", "")
    clock.now += 1
    assert due(table) == ["ours-0"]
    table.remove("ours-0")
    for _ in range(5):
        clock.now += 599
        table.heard("ours-1", "busy")
    assert due(table) == []
    clock.now += 5
    assert due(table) == ["ours-1"]


def test_a_kernel_that_computes_is_in_use(clock: Clock) -> None:
    table = table_of(clock, idle_minutes=10)
    fill(table, 1)
    table.attach("ours-0")
    table.heard("ours-0", "busy")
    clock.now += 1000
    assert due(table) == []
    table.heard("ours-0", "idle")
    clock.now += 600
    assert due(table) == ["ours-0"]


def test_warm_kernels_wait_for_as_long_as_it_takes(clock: Clock) -> None:
    table = table_of(clock)
    table.add_warm(record_of(0, warm=True))
    clock.now += 10**7
    assert due(table) == []
    assert table.seconds_left() == float("inf")


def test_what_is_heard_of_kernels_is_seen(clock: Clock) -> None:
    table = table_of(clock)
    fill(table, 1)
    clock.now += 7
    table.heard("ours-0", "busy")
    table.heard("ours-0", "")
    kernel = table.get("ours-0")
    assert kernel
    assert (kernel.state, kernel.last_activity, kernel.sockets) == ("busy", clock.now, 0)
    table.remove("ours-0")
    for act in (table.attach, table.detach, table.restarted, table.remove):
        assert not act("ours-0")
    table.heard("ours-0", "idle")
    assert table.recording("ours-0") == {}


# Records


@pytest.fixture
def state(tmp_path: Path) -> Iterator[State]:
    opened = State(tmp_path)
    yield opened
    opened.close()


def test_records_come_back_as_they_were(state: State) -> None:
    records = Records(state)
    kept = record_of(0, owner="user:ada", session="s", address="::1", label=Label("1", "a", "b", "c"), warm=True)
    for number, record in enumerate((kept, record_of(1))):
        records.announce(replace(record, kernel="not known yet"))
        assert len(records.running()) == number
        records.began(record)
    kept = replace(kept, warm=False)
    records.keep(kept)
    assert sorted(records.running(), key=lambda one: one.id) == [kept, record_of(1)]
    records.end("ours-0")
    assert records.running() == [record_of(1)]
    assert records.remains() == [Remains("ours-0", "main", "theirs-0")]
    records.forget("ours-0")
    assert records.remains() == []


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", '{"program": {}, "label": null}', '{"program": null}'])
def test_a_record_that_cannot_be_read_is_of_a_kernel_to_be_deleted(state: State, text: str) -> None:
    records = Records(state)
    records.announce(record_of(0))
    records.began(record_of(0))
    state.write("UPDATE kernels SET record = ?", (text,))
    assert records.running() == []
    assert records.remains() == [Remains("ours-0", "main", "theirs-0")]


def test_a_kernel_is_to_be_deleted_until_it_is_known_to_run(state: State) -> None:
    records = Records(state)
    records.announce(record_of(0))
    assert records.running() == []
    assert records.remains() == [Remains("ours-0", "main", "theirs-0", 1000.0)]
    records.began(record_of(0))
    assert (records.running(), records.remains()) == ([record_of(0)], [])


def test_news_of_a_kernel_that_was_ended_do_not_revive_it(state: State) -> None:
    records = Records(state)
    records.announce(record_of(0))
    records.began(record_of(0))
    records.end("ours-0")
    records.keep(record_of(0))
    assert (records.running(), records.remains()) == ([], [Remains("ours-0", "main", "theirs-0")])
    records.forget("ours-0")
    records.keep(record_of(0))
    assert (records.running(), records.remains()) == ([], [])


def test_ids_cannot_be_guessed() -> None:
    ids = {new_id() for _ in range(1000)}
    assert len(ids) == 1000
    assert all(len(one) == 36 and one[14] == "4" for one in ids)
