"""What an instance may use: `cpu=1,memory=2Gi,nvidia.com/gpu=1` as numbers, and as Kubernetes writes them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from fractions import Fraction
from math import ceil
from string import ascii_letters
from typing import TYPE_CHECKING

from builder.formats import AMOUNT
from builder.values import short
from shim.instances.errors import InvalidError

if TYPE_CHECKING:
    from builder.settings import Instances as Settings

LONGEST_RESOURCES = 1024
"""Characters of the text."""
LEAST_CPU = "100m"
LEAST_MEMORY = "64Mi"
LARGEST_CPU = "100k"
"""More than any machine has, so that all numbers fit everywhere; the settings have the limits that are meant."""
LARGEST_MEMORY = "1P"

_ALIAS = "gpu"
_DECIMAL = {suffix: Fraction(1000) ** power for power, suffix in enumerate(("m", "", "k", "M", "G", "T", "P", "E"), -1)}
_BINARY = {suffix: Fraction(1024) ** power for power, suffix in enumerate(("Ki", "Mi", "Gi", "Ti", "Pi", "Ei"), 1)}
_FACTORS = _DECIMAL | _BINARY


@dataclass(frozen=True)
class Resources:
    """What one instance may use."""

    cpu: Decimal
    """Processors, in whole thousandths."""
    memory: int
    """Bytes."""
    gpus: tuple[tuple[str, int], ...] = ()
    """Kinds of graphics processors, and how many of each."""

    @property
    def cpu_quantity(self) -> str:
        """The processors as Kubernetes writes them: "2" or "500m"."""
        millis = int(self.cpu * 1000)
        return f"{millis}m" if millis % 1000 else str(millis // 1000)

    @property
    def memory_quantity(self) -> str:
        """The memory as Kubernetes writes it: "1Gi", or bytes."""
        amount, suffix = self.memory, ""
        for larger in _BINARY:
            if amount % 1024:
                break
            amount, suffix = amount // 1024, larger
        return f"{amount}{suffix}"


def read_resources(text: str, limits: Settings) -> Resources:
    """What the resources of a request ask for. Raises InvalidError, which names the item that is wrong.

    Fractions of a byte, and of a thousandth of a processor, are rounded up, as Kubernetes does it.
    """
    if len(text) > LONGEST_RESOURCES:
        raise InvalidError(f"spec.resources is longer than {LONGEST_RESOURCES} characters.")
    items = _items(text, limits.gpu_keys)
    millis = ceil(_amount("cpu", items, LEAST_CPU, limits.max_cpu or LARGEST_CPU) * 1000)
    memory = ceil(_amount("memory", items, LEAST_MEMORY, limits.max_memory or LARGEST_MEMORY))
    return Resources(Decimal(millis) / 1000, memory, _gpus(items, limits.max_gpus))


def _items(text: str, gpu_keys: tuple[str, ...]) -> dict[str, str]:
    """The amounts as they are written, by key; the alias is replaced by the key it stands for."""
    found: dict[str, str] = {}
    known = ("cpu", "memory", *gpu_keys)
    for item in text.split(","):
        key, equals, amount = (part.strip(" \t") for part in item.partition("="))
        if not key and not equals:
            raise InvalidError('spec.resources has an empty item; write it like "cpu=1,memory=2Gi".')
        if not equals or not amount:
            raise InvalidError(f'"{short(item.strip())}" in spec.resources has no amount; write it like "cpu=1".')
        name = gpu_keys[0] if key == _ALIAS and gpu_keys else key
        if name not in known:
            raise InvalidError(f'"{short(key)}" in spec.resources is not known; it has {", ".join(known)}.')
        if name in found:
            raise InvalidError(f'"{short(name)}" is in spec.resources twice.')
        found[name] = amount
    return found


def _amount(key: str, items: Mapping[str, str], least: str, most: str) -> Fraction:
    written = items.get(key)
    if written is None:
        raise InvalidError(f'spec.resources has no {key}; write it like "cpu=1,memory=2Gi".')
    shown = f"{key}={short(written)} in spec.resources"
    if not re.fullmatch(AMOUNT, written, re.ASCII):
        raise InvalidError(f'{shown} is not an amount; write it like "2", "500m", "512Mi" or "8Gi".')
    amount = _number(written)
    if amount < _number(least):
        hint = "; m stands for thousandths, Mi for megabytes" if key == "memory" and written.endswith("m") else ""
        raise InvalidError(f"{shown} is too little; it takes at least {least}{hint}.")
    if amount > _number(most):
        raise InvalidError(f"{shown} is too much; at most {most} is allowed.")
    return amount


def _number(written: str) -> Fraction:
    digits = written.rstrip(ascii_letters)
    return Fraction(digits) * _FACTORS[written[len(digits) :]]


def _gpus(items: Mapping[str, str], most: int) -> tuple[tuple[str, int], ...]:
    found = []
    for key, written in items.items():
        if key in ("cpu", "memory"):
            continue
        if not re.fullmatch(r"[0-9]{1,15}", written) or not int(written):
            raise InvalidError(f"{key}={short(written)} in spec.resources has to be a whole number from 1 on.")
        found.append((key, int(written)))
    if sum(number for _, number in found) > most:
        shown = ",".join(f"{key}={number}" for key, number in found)
        raise InvalidError(f"{shown} in spec.resources is too much; at most {most} graphics processors are allowed.")
    return tuple(found)
