"""The records of the server: they survive, stay private, and are never lost silently."""

from __future__ import annotations

import os
import sqlite3
import stat
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from shim.state import FILE, STEPS, State, StateError

TABLE = (("CREATE TABLE things (name TEXT PRIMARY KEY, count INTEGER NOT NULL)",),)


@pytest.fixture
def state(tmp_path: Path) -> Iterator[State]:
    """Records with one table of a test."""
    opened = State(tmp_path / "state", TABLE)
    yield opened
    opened.close()


def things(state: State) -> list[tuple[str, int]]:
    return [(name, count) for name, count in state.read("SELECT name, count FROM things ORDER BY name")]


def add(state: State, name: str) -> None:
    state.write("INSERT INTO things VALUES (?, 1)", (name,))


def test_what_was_written_is_there_after_a_restart(tmp_path: Path) -> None:
    first = State(tmp_path, TABLE)
    add(first, "a")
    assert first.write("UPDATE things SET count = 2") == 1
    first.close()
    again = State(tmp_path, TABLE)
    assert things(again) == [("a", 2)]
    again.close()


def test_folder_and_files_are_for_their_owner_alone(tmp_path: Path) -> None:
    folder = tmp_path / "deep" / "state"
    folder.mkdir(parents=True, mode=0o755)
    (folder / FILE).touch(0o644)
    before = os.umask(0)
    try:
        state = State(folder)
        state.write("INSERT INTO sessions VALUES (x'00', '', '', 0, 0)")
        modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in (folder, *folder.iterdir())}
        state.close()
    finally:
        os.umask(before)
    assert modes == {"state": 0o700, FILE: 0o600, f"{FILE}-wal": 0o600, f"{FILE}-shm": 0o600}


def test_a_folder_that_many_share_stays_open_to_them(tmp_path: Path) -> None:
    tmp_path.chmod(0o1777)
    State(tmp_path).close()
    assert stat.S_IMODE(tmp_path.stat().st_mode) == 0o1777
    assert stat.S_IMODE((tmp_path / FILE).stat().st_mode) == 0o600


def test_a_transaction_happens_as_a_whole_or_not_at_all(state: State) -> None:
    with state.transaction():
        add(state, "a")
        add(state, "b")
    with pytest.raises(ZeroDivisionError), state.transaction():
        add(state, "c")
        state.write("DELETE FROM things WHERE name = 'a'")
        raise ZeroDivisionError
    assert things(state) == [("a", 1), ("b", 1)]
    with state.transaction():
        add(state, "c")
    assert len(things(state)) == 3


def test_a_transaction_belongs_to_its_thread(state: State) -> None:
    inside, seen = threading.Event(), []

    def read() -> None:
        inside.wait()
        seen.append(things(state))

    other = threading.Thread(target=read)
    other.start()
    with state.transaction():
        add(state, "a")
        inside.set()
        add(state, "b")
    other.join()
    assert seen == [[("a", 1), ("b", 1)]]


def test_many_threads_lose_nothing(state: State) -> None:
    add(state, "n")

    def count() -> None:
        for _ in range(50):
            with state.transaction():
                ((now,),) = state.read("SELECT count FROM things")
                state.write("UPDATE things SET count = ?", (now + 1,))

    threads = [threading.Thread(target=count) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert things(state) == [("n", 401)]


def test_processes_open_one_new_file_at_the_same_time_and_lose_nothing(tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from shim.state import State\n"
        f"sys.stdin.read(); state = State(Path(sys.argv[1]), {TABLE!r})\n"
        "state.write(\"INSERT OR IGNORE INTO things VALUES ('n', 0)\")\n"
        "for _ in range(50): state.write('UPDATE things SET count = count + 1')\n"
        "state.close()"
    )
    command = [sys.executable, "-c", code, str(tmp_path)]
    processes = [subprocess.Popen(command, stdin=subprocess.PIPE, stderr=subprocess.PIPE) for _ in range(4)]
    for process in processes:
        assert process.stdin
        process.stdin.close()
        process.stdin = None
    said = [process.communicate(timeout=60)[1] for process in processes]
    assert said == [b""] * 4
    state = State(tmp_path, TABLE)
    assert things(state) == [("n", 200)]
    state.close()


def test_a_new_file_that_another_process_prepares_is_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = sqlite3.connect(tmp_path / FILE, isolation_level=None)
    other.execute("CREATE TABLE first (x)")
    other.execute("BEGIN")
    other.execute("SELECT * FROM first").fetchall()
    waited: list[float] = []

    def sleep(seconds: float) -> None:
        waited.append(seconds)
        other.execute("COMMIT")

    monkeypatch.setattr("shim.state.BUSY_SECONDS", 0.2)
    with monkeypatch.context() as patched:
        patched.setattr("shim.state.time.sleep", sleep)
        patched.setattr("shim.state.time.monotonic", lambda: 0.0)
        state = State(tmp_path, TABLE)
    assert len(waited) == 1
    assert things(state) == []
    state.close()
    other.close()


def test_later_versions_add_to_what_is_there(tmp_path: Path) -> None:
    first = State(tmp_path, TABLE)
    add(first, "a")
    first.close()
    more = (*TABLE, ("ALTER TABLE things ADD COLUMN note TEXT NOT NULL DEFAULT ''", "CREATE TABLE others (x)"))
    second = State(tmp_path, more)
    assert second.read("SELECT * FROM things") == [("a", 1, "")]
    assert second.read("SELECT * FROM others") == []
    second.close()
    with pytest.raises(StateError, match="newer version"):
        State(tmp_path, TABLE)


def test_a_step_that_fails_changes_nothing(tmp_path: Path) -> None:
    State(tmp_path, TABLE).close()
    with pytest.raises(StateError):
        State(tmp_path, (*TABLE, ("CREATE TABLE others (x)", "CREATE NONSENSE")))
    with sqlite3.connect(tmp_path / FILE) as database:
        assert database.execute("SELECT name FROM sqlite_master WHERE name = 'others'").fetchall() == []
        assert database.execute("PRAGMA user_version").fetchone() == (1,)
    database.close()


def test_the_schema_of_a_new_site_is_that_of_all_steps(tmp_path: Path) -> None:
    state = State(tmp_path)
    assert state.read("PRAGMA user_version") == [(len(STEPS),)]
    assert state.read("SELECT * FROM sessions") == []
    assert state.read("PRAGMA journal_mode") == [("wal",)]
    state.close()


@pytest.mark.parametrize("damage", ["text", "middle", "short"])
def test_a_damaged_file_is_a_sentence_and_stays(tmp_path: Path, damage: str) -> None:
    state = State(tmp_path, TABLE)
    for number in range(500):
        add(state, f"{number} {'x' * 100}")
    state.close()
    file = tmp_path / FILE
    data = file.read_bytes()
    half = len(data) // 8192 * 4096
    broken = {"text": b"no database " * 1000, "middle": data[:4096] + b"\xff" * half + data[4096 + half :]}
    broken["short"] = data[:half]
    file.write_bytes(broken[damage])
    with pytest.raises(StateError, match=r"state\.db is damaged: .*move it away"):
        State(tmp_path, TABLE)
    assert file.read_bytes() == broken[damage]


def test_a_place_that_cannot_be_used_is_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    (tmp_path / FILE).mkdir()
    for folder in (tmp_path / "file", tmp_path / "file" / "below", tmp_path):
        with pytest.raises(StateError, match="cannot be used"):
            State(folder)


def test_a_wrong_statement_is_an_error_of_ours_and_does_not_hold_the_lock(state: State) -> None:
    for call in (state.read, state.write):
        with pytest.raises(StateError):
            call("SELECT * FROM nothing")
    with pytest.raises(StateError), state.transaction():
        add(state, "a")
        add(state, "a")
    assert things(state) == []


def test_a_closed_file_is_an_error_of_ours(tmp_path: Path) -> None:
    state = State(tmp_path)
    state.close()
    with pytest.raises(StateError):
        state.read("SELECT 1")
