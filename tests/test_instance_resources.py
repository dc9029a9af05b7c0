"""Resources of instances: a strict grammar, exact numbers, and quantities that Kubernetes takes."""

from __future__ import annotations

from decimal import Decimal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from kubernetes.utils.quantity import parse_quantity

from builder.settings import Instances
from shim.instances.errors import InvalidError
from shim.instances.resources import Resources, read_resources

OPEN = Instances()
BOUNDED = Instances(max_cpu="4", max_memory="8Gi", max_gpus=2, gpu_keys=("nvidia.com/gpu", "amd.com/gpu"))
GI = 2**30


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("cpu=1,memory=1.0Gi", Resources(Decimal(1), GI)),
        ("cpu=0.5,memory=512M", Resources(Decimal("0.5"), 512_000_000)),
        ("cpu=1,memory=2Gi,nvidia.com/gpu=1", Resources(Decimal(1), 2 * GI, (("nvidia.com/gpu", 1),))),
        ("cpu=2,nvidia.com/gpu=1,memory=1024M", Resources(Decimal(2), 1_024_000_000, (("nvidia.com/gpu", 1),))),
        ("cpu=1,gpu=2,memory=1Gi", Resources(Decimal(1), GI, (("nvidia.com/gpu", 2),))),
        (" cpu = 1 ,\tmemory=1Gi ", Resources(Decimal(1), GI)),
        ("memory=64Mi,cpu=100m", Resources(Decimal("0.1"), 64 * 2**20)),
        ("memory=65536Ki,cpu=0.2", Resources(Decimal("0.2"), 64 * 2**20)),
        (
            "memory=8Gi,cpu=4,amd.com/gpu=1,gpu=1",
            Resources(Decimal(4), 8 * GI, (("amd.com/gpu", 1), ("nvidia.com/gpu", 1))),
        ),
        ("cpu=0.3333,memory=100000000.5", Resources(Decimal("0.334"), 100_000_001)),
    ],
)
def test_what_is_asked_for_is_exact(text: str, expected: Resources) -> None:
    assert read_resources(text, BOUNDED) == expected


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("", "empty item"),
        (",", "empty item"),
        ("cpu=1,,memory=1Gi", "empty item"),
        ("cpu=1,memory=1Gi,", "empty item"),
        ("cpu", '"cpu" in spec.resources has no amount'),
        ("cpu=,memory=1Gi", '"cpu=" in spec.resources has no amount'),
        ("=1", '"" in spec.resources is not known'),
        ("cpu=1=2,memory=1Gi", "cpu=1=2 in spec.resources is not an amount"),
        ("cpu=1,memory=1Gi,ephemeral-storage=1Gi", '"ephemeral-storage" in spec.resources is not known'),
        ("CPU=1,memory=1Gi", '"CPU" in spec.resources is not known'),
        ("cpu=1,cpu=1,memory=1Gi", '"cpu" is in spec.resources twice'),
        ("cpu=1,memory=1Gi,gpu=1,nvidia.com/gpu=1", '"nvidia.com/gpu" is in spec.resources twice'),
        ("memory=1Gi", "has no cpu"),
        ("cpu=1", "has no memory"),
        ("cpu=abc,memory=1Gi", "cpu=abc in spec.resources is not an amount"),
        ("cpu=1,memory=1gi", "memory=1gi in spec.resources is not an amount"),
        ("cpu=1,memory=1K", "memory=1K in spec.resources is not an amount"),
        ("cpu=1,memory=1 Gi", "memory=1 Gi in spec.resources is not an amount"),
        ("cpu=-1,memory=1Gi", "cpu=-1 in spec.resources is not an amount"),
        ("cpu=+1,memory=1Gi", "cpu=.1 in spec.resources is not an amount"),
        ("cpu=NaN,memory=1Gi", "cpu=NaN in spec.resources is not an amount"),
        ("cpu=Infinity,memory=1Gi", "cpu=Infinity"),
        ("cpu=1e3,memory=1Gi", "cpu=1e3"),
        ("cpu=1.,memory=1Gi", "cpu=1."),
        ("cpu=.5,memory=1Gi", "cpu=.5"),
        ("cpu=١,memory=1Gi", "is not an amount"),
        ("cpu=1,memory=１Gi", "is not an amount"),
        ("cpu=1\n,memory=1Gi", "is not an amount"),
        ("cpu=0,memory=1Gi", "cpu=0 in spec.resources is too little; it takes at least 100m"),
        ("cpu=99m,memory=1Gi", "cpu=99m in spec.resources is too little"),
        ("cpu=1,memory=0", "memory=0 in spec.resources is too little; it takes at least 64Mi"),
        ("cpu=1,memory=512m", "memory=512m in spec.resources is too little.*m stands for thousandths"),
        ("cpu=1,memory=67108863", "memory=67108863 in spec.resources is too little"),
        ("cpu=4.001,memory=1Gi", "cpu=4.001 in spec.resources is too much; at most 4 is allowed"),
        ("cpu=4001m,memory=1Gi", "cpu=4001m in spec.resources is too much"),
        ("cpu=1,memory=8589934593", "memory=8589934593 in spec.resources is too much; at most 8Gi"),
        ("cpu=1,memory=9G", "memory=9G in spec.resources is too much"),
        ("cpu=1,memory=1Gi,gpu=0", "nvidia.com/gpu=0 in spec.resources has to be a whole number"),
        ("cpu=1,memory=1Gi,gpu=0.5", "nvidia.com/gpu=0.5 in spec.resources has to be a whole number"),
        ("cpu=1,memory=1Gi,gpu=1.0", "has to be a whole number"),
        ("cpu=1,memory=1Gi,gpu=-1", "has to be a whole number"),
        ("cpu=1,memory=1Gi,gpu=1k", "has to be a whole number"),
        ("cpu=1,memory=1Gi,gpu=٢", "has to be a whole number"),
        ("cpu=1,memory=1Gi,gpu=3", "nvidia.com/gpu=3 in spec.resources is too much; at most 2"),
        ("cpu=1,memory=1Gi,gpu=1,amd.com/gpu=2", "nvidia.com/gpu=1,amd.com/gpu=2 in spec.resources is too much"),
        ("cpu=1,memory=1Gi," + "x" * 1024, "longer than 1024 characters"),
    ],
)
def test_a_wrong_item_is_named(text: str, sentence: str) -> None:
    with pytest.raises(InvalidError, match=sentence) as caught:
        read_resources(text, BOUNDED)
    assert len(str(caught.value)) < 300
    assert str(caught.value).isprintable()


def test_without_limits_in_the_settings_numbers_still_fit() -> None:
    assert read_resources("cpu=100k,memory=1P", OPEN) == Resources(Decimal(100_000), 10**15)
    for text in ("cpu=100001,memory=1Gi", "cpu=1,memory=1Pi", "cpu=999999999999999E,memory=1Gi"):
        with pytest.raises(InvalidError, match="is too much"):
            read_resources(text, OPEN)


def test_without_kinds_of_graphics_processors_there_are_none() -> None:
    none = Instances(gpu_keys=())
    assert read_resources("cpu=1,memory=1Gi", none).gpus == ()
    with pytest.raises(InvalidError, match=r'"gpu" in spec\.resources is not known; it has cpu, memory\.$'):
        read_resources("cpu=1,memory=1Gi,gpu=1", none)
    with pytest.raises(InvalidError, match="at most 0 graphics processors"):
        read_resources("cpu=1,memory=1Gi,gpu=1", Instances(max_gpus=0))


@pytest.mark.parametrize(
    ("text", "quantities"),
    [
        ("cpu=1,memory=1.0Gi", ("1", "1Gi")),
        ("cpu=0.5,memory=512M", ("500m", "500000Ki")),
        ("cpu=1500m,memory=1.5Gi", ("1500m", "1536Mi")),
        ("cpu=2000m,memory=100000001", ("2", "100000001")),
    ],
)
def test_quantities_are_as_kubernetes_writes_them(text: str, quantities: tuple[str, str]) -> None:
    found = read_resources(text, OPEN)
    assert (found.cpu_quantity, found.memory_quantity) == quantities


NUMBERS = st.from_regex(r"[0-9]{1,6}(\.[0-9]{1,9})?(m|k|M|G|Ki|Mi|Gi|Ti)?", fullmatch=True)


@given(NUMBERS, NUMBERS, st.integers(0, 3))
@settings(deadline=None)
def test_quantities_mean_what_was_written(cpu: str, memory: str, gpus: int) -> None:
    text = f"cpu={cpu},memory={memory}" + (f",gpu={gpus}" if gpus else "")
    within = Decimal("0.1") <= parse_quantity(cpu) <= 100_000 and 2**26 <= parse_quantity(memory) <= 10**15
    if not within:
        with pytest.raises(InvalidError, match=r"is too (little|much)"):
            read_resources(text, OPEN)
        return
    found = read_resources(text, OPEN)
    assert parse_quantity(found.cpu_quantity) == found.cpu
    assert parse_quantity(found.memory_quantity) == found.memory
    assert 0 <= found.cpu - parse_quantity(cpu) < Decimal("0.001")
    assert 0 <= found.memory - parse_quantity(memory) < 1
    assert dict(found.gpus).get("nvidia.com/gpu", 0) == gpus


PIECES = st.sampled_from(
    ["cpu", "memory", "gpu", "nvidia.com/gpu", "=", ",", "1", "0.5", "Gi", "m", "E", " ", "-", "٣", "\n"]
)


@given(st.one_of(st.text(), st.lists(PIECES).map("".join)))
@settings(deadline=None, max_examples=200)
def test_nothing_but_a_sentence_comes_of_a_wrong_text(text: str) -> None:
    try:
        found = read_resources(text, BOUNDED)
    except InvalidError as error:
        sentence = str(error)
        found = None
    if found is None:
        assert sentence.isprintable() and len(sentence) < 400
    else:
        assert Decimal("0.1") <= found.cpu <= 4
        assert 2**26 <= found.memory <= 8 * GI
        assert all(0 < number <= 2 for _, number in found.gpus)
