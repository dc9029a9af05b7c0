"""Environments: those of the settings stand, those of the API are kept, and several processes agree on them."""

from __future__ import annotations

import json
import logging
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from builder.settings import Environment as Configured
from shim.instances.environments import MOST_ENVIRONMENTS, Environments
from shim.instances.errors import InvalidError, NotYoursError, TakenError, UnknownError
from shim.instances.records import EnvironmentSpec, KernelSpec
from shim.instances.specs import environment_spec
from shim.state import State

CONFIGURED = (
    Configured("notebook-env", "example.org/base:1"),
    Configured("GPU env", "example.org/gpu:1", "With CUDA."),
)
FULL = EnvironmentSpec(
    "team",
    "example.org/team:2",
    KernelSpec("python3", ("defaults",), ("numpy=1.26",), ("rich>=13,<14",)),
    "For us.",
    "example.org/other",
)


@pytest.fixture
def state(tmp_path: Path) -> Iterator[State]:
    """Records of a server."""
    opened = State(tmp_path)
    yield opened
    opened.close()


@pytest.fixture
def environments(state: State) -> Environments:
    """The environments of a server."""
    return Environments(state, CONFIGURED)


def small(name: str) -> EnvironmentSpec:
    return EnvironmentSpec(name, "example.org/small")


def names(environments: Environments) -> list[str]:
    return [one.spec.name for one in environments.all()]


def test_those_of_the_settings_are_there_from_the_start(environments: Environments) -> None:
    assert [one.spec for one in environments.all()] == [
        EnvironmentSpec("notebook-env", "example.org/base:1"),
        EnvironmentSpec("GPU env", "example.org/gpu:1", description="With CUDA."),
    ]
    assert environments.get("GPU env") == environments.all()[1]


def test_what_was_added_is_there_after_a_restart(tmp_path: Path) -> None:
    first = State(tmp_path)
    made = Environments(first, CONFIGURED).add(FULL)
    first.close()
    again = State(tmp_path)
    environments = Environments(again, CONFIGURED)
    assert environments.get("team") == made
    assert made.spec == FULL
    assert names(environments) == ["notebook-env", "GPU env", "team"]
    again.close()


def test_ids_are_of_one_form_and_never_the_same(
    state: State, environments: Environments, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("shim.instances.environments.time.time", lambda: 1626160071.451)
    twins = Environments(state, CONFIGURED), Environments(state, CONFIGURED)
    made = [twin.add(small(f"e{number}{number % 2}")).id for number in range(2) for twin in (twins[number],)]
    assert made == ["environment_1626160071451_0001", "environment_1626160071451_0002"]
    ids = [one.id for one in environments.all()]
    assert len(set(ids)) == 4
    assert all(re.fullmatch(r"environment_[0-9]+_[0-9]{4,}", one) for one in ids)


def test_those_of_the_settings_have_the_same_ids_in_every_process(state: State) -> None:
    first, second = Environments(state, CONFIGURED), Environments(state, CONFIGURED)
    assert [one.id for one in first.all()] == [one.id for one in second.all()]


def test_the_oldest_is_first(state: State, monkeypatch: pytest.MonkeyPatch) -> None:
    for seconds, name in ((9.0, "c"), (100.0, "a"), (20.0, "b")):
        monkeypatch.setattr("shim.instances.environments.time.time", lambda now=seconds: now)
        Environments(state, ()).add(small(name))
    assert names(Environments(state, ())) == ["c", "b", "a"]


def test_a_name_is_given_once(environments: Environments) -> None:
    environments.add(FULL)
    for name in ("team", "notebook-env"):
        with pytest.raises(TakenError, match=f"There is an environment {name} already"):
            environments.add(small(name))
    assert environments.get("team").spec == FULL


@pytest.mark.parametrize(
    "name", ["nothing", "", "Team", "team ", "../team", "team\0", "\ud800", "x" * 10_000, "team' OR 'a'='a"]
)
def test_what_is_not_there_is_unknown(environments: Environments, name: str) -> None:
    environments.add(FULL)
    for call in (environments.get, environments.remove, lambda name: environments.change(name, {})):
        with pytest.raises(UnknownError, match=r"^Environment not found\.$"):
            call(name)
    assert len(environments.all()) == 3


def test_a_change_replaces_what_is_sent_and_keeps_the_rest(environments: Environments) -> None:
    made = environments.add(FULL)
    changed = environments.change("team", {"dockerImage": "example.org/team:3", "description": None})
    assert changed == environments.get("team")
    assert changed.id == made.id
    assert changed.spec == EnvironmentSpec("team", "example.org/team:3", FULL.kernel_spec, None, FULL.image)
    assert environments.change("team", {"name": "team", "kernelSpec": {"name": "r"}}).spec.kernel_spec == KernelSpec(
        "r"
    )
    assert environments.change("team", {}) == environments.get("team")


@pytest.mark.parametrize(
    "fields",
    [
        {"name": "notebook-env"},
        {"name": "other", "dockerImage": "example.org/x"},
        {"dockerImage": None},
        {"dockerImage": "a b"},
        {"nonsense": "1"},
    ],
)
def test_a_wrong_change_changes_nothing(environments: Environments, fields: dict[str, str | None]) -> None:
    environments.add(FULL)
    before = environments.all()
    with pytest.raises(InvalidError):
        environments.change("team", fields)
    assert environments.all() == before


def test_those_of_the_settings_cannot_be_changed_or_removed(environments: Environments) -> None:
    before = environments.all()
    with pytest.raises(NotYoursError, match="comes from the settings"):
        environments.change("notebook-env", {"dockerImage": "example.org/mine"})
    with pytest.raises(NotYoursError, match="comes from the settings"):
        environments.remove("notebook-env")
    assert environments.all() == before


def test_the_settings_hide_what_was_added_under_their_name(state: State) -> None:
    mine = Environments(state, ()).add(EnvironmentSpec("notebook-env", "example.org/mine"))
    seeded = Environments(state, CONFIGURED)
    assert seeded.get("notebook-env").spec.docker_image == "example.org/base:1"
    assert names(seeded) == ["notebook-env", "GPU env"]
    assert Environments(state, ()).get("notebook-env") == mine


def test_what_was_removed_is_gone_and_its_name_is_free(environments: Environments) -> None:
    made = environments.add(FULL)
    assert environments.remove("team") == made
    with pytest.raises(UnknownError):
        environments.get("team")
    assert environments.add(small("team")).id != made.id


def test_there_is_a_most(environments: Environments) -> None:
    for number in range(MOST_ENVIRONMENTS - len(CONFIGURED)):
        environments.add(small(f"e{number}"))
    with pytest.raises(NotYoursError, match="200 environments"):
        environments.add(small("more"))
    environments.remove("e7")
    environments.add(small("more"))
    assert len(environments.all()) == MOST_ENVIRONMENTS


@pytest.mark.parametrize(
    "record", ["", "null", "[]", "{}", '{"id":"x","spec":{}}', '{"id":5,"spec":{"kernel_spec":null,"name":"b"}}']
)
def test_a_record_that_cannot_be_read_is_not_there_and_hinders_nobody(
    state: State, environments: Environments, record: str, caplog: pytest.LogCaptureFixture
) -> None:
    environments.add(FULL)
    state.write("INSERT INTO environments VALUES ('b', ?)", (record,))
    with caplog.at_level(logging.ERROR, "shim.instances"):
        assert names(environments) == ["notebook-env", "GPU env", "team"]
    assert "environment b cannot be read" in caplog.text
    with pytest.raises(UnknownError):
        environments.get("b")
    environments.add(small("b"))
    assert environments.get("b").spec == small("b")


def test_one_name_is_given_to_one_of_many_threads(environments: Environments) -> None:
    outcomes: list[str] = []

    def add() -> None:
        try:
            outcomes.append(environments.add(small("team")).id)
        except TakenError:
            outcomes.append("taken")

    threads = [threading.Thread(target=add) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert outcomes.count("taken") == 7


def test_several_processes_share_the_environments(tmp_path: Path) -> None:
    state = State(tmp_path)
    environments = Environments(state, ())
    code = (
        "import sys; from pathlib import Path; from shim.state import State\n"
        "from shim.instances.environments import Environments; from shim.instances.errors import TakenError\n"
        "from shim.instances.records import EnvironmentSpec; sys.stdin.read()\n"
        "state, wins = State(Path(sys.argv[1])), 0; environments = Environments(state, ())\n"
        "for number in range(20):\n"
        "    try: environments.add(EnvironmentSpec(f'e{number}', 'example.org/x')); wins += 1\n"
        "    except TakenError: pass\n"
        "    environments.change('shared', {'description': str(number)})\n"
        "print(wins); state.close()"
    )
    environments.add(small("shared"))
    command = [sys.executable, "-c", code, str(tmp_path)]
    processes = [
        subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        for _ in range(3)
    ]
    for process in processes:
        assert process.stdin
        process.stdin.close()
        process.stdin = None
    said = [process.communicate(timeout=60) for process in processes]
    assert [error for _, error in said] == [b""] * 3
    assert sum(int(output) for output, _ in said) == 20
    assert len(environments.all()) == 21
    assert len({one.id for one in environments.all()}) == 21
    assert environments.get("shared").spec.description == "19"
    state.close()


def test_what_is_sent_over_the_api_is_what_is_kept(state: State, environments: Environments) -> None:
    sent = {
        "name": "übung".encode("ascii", "ignore").decode(),
        "dockerImage": "quay.io/x/y",
        "description": "Für alle – 漢字",
    }
    made = environments.add(environment_spec(sent, None))
    ((record,),) = state.read("SELECT record FROM environments")
    assert json.loads(record)["spec"]["description"] == sent["description"]
    assert Environments(state, ()).get(made.spec.name) == made


@given(st.text())
@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_no_text_is_more_than_an_unknown_name(environments: Environments, name: str) -> None:
    if name not in ("notebook-env", "GPU env"):
        with pytest.raises(UnknownError):
            environments.get(name)
