"""Small changes to valid inputs: flipped bytes, inserted tokens, parts that are cut, doubled, swapped, spliced."""

from __future__ import annotations

from collections.abc import Sequence
from random import Random

NUMBERS = ("0", "1", "-1", "+1", "00", "1_0", "1e3", "0x10", "255", "256", "65535", "65536", "4294967295", "٣", "²")
NUMBERS_LONG = ("9" * 18, "9" * 19, "9" * 5000, "18446744073709551616", "1" + "0" * 400)
CHARACTERS = (
    *"ab./\\:%#?&;,=+~ \"'<>[]{}()@-_C0",
    "\0", "\t", "\n", "\r", "\x1b", "\x7f", "\x80", "\x85", "\x9f", "\xa0", "é", "e\u0301", "\u2028", "\u202e",
    "\ufeff", "\uff0f", "\uff0e", "\ufffe", "\U0001f600", "\U00010000", "İ", "ß",
)  # fmt: skip
SURROGATES = ("\ud800", "\udc80", "\udcff", "\udfff")


def text(random: Random, valid: str, tokens: Sequence[str], most: int = 4) -> str:
    """`valid` after up to `most` changes; now and then as it is."""
    for _ in range(random.randrange(most + 1)):
        at, end = random.randrange(len(valid) + 1), random.randrange(len(valid) + 1)
        kind = random.randrange(8)
        if kind < 2:
            valid = valid[:at] + random.choice(tokens) + valid[at:]
        elif kind < 4:
            valid = valid[:at] + random.choice(CHARACTERS) + valid[at + random.randrange(2) :]
        elif kind == 4:
            valid = valid[: min(at, end)] + valid[max(at, end) :]
        elif kind == 5:
            valid = valid[:at] + valid[min(at, end) : max(at, end)][:200] + valid[at:]
        elif kind == 6:
            valid = valid[: min(at, end)] + random.choice(tokens) + valid[max(at, end) :]
        else:
            valid = valid[:at] + chr(random.randrange(256)) + valid[at + 1 :]
    return valid


def data(random: Random, valid: bytes, tokens: Sequence[bytes], most: int = 4) -> bytes:
    """The same for bytes."""
    changed = bytearray(valid)
    for _ in range(random.randrange(1, most + 1)):
        at, end = sorted((random.randrange(len(changed) + 1), random.randrange(len(changed) + 1)))
        kind = random.randrange(9)
        if kind < 2 and changed:
            changed[min(at, len(changed) - 1)] ^= 1 << random.randrange(8)
        elif kind == 2 and changed:
            changed[min(at, len(changed) - 1)] = random.choice((0, 255, 10, 13, random.randrange(256)))
        elif kind == 3:
            changed[at:at] = random.choice(tokens)
        elif kind == 4:
            token = random.choice(tokens)
            changed[at : at + len(token)] = token
        elif kind == 5:
            del changed[at : min(end, at + random.choice((1, 2, 16, 1 << 20)))]
        elif kind == 6:
            changed[at:at] = changed[at : min(end, at + 300)]
        elif kind == 7:
            del changed[end:]
        else:
            other = random.randrange(len(changed) + 1)
            changed[at : at + 16] = changed[other : other + 16]
    return bytes(changed)


def joined(random: Random, tokens: Sequence[str], separators: Sequence[str], most: int = 8) -> str:
    """Tokens with separators between them."""
    parts = [random.choice(tokens)]
    for _ in range(random.randrange(most)):
        parts += random.choice(separators), random.choice(tokens)
    return "".join(parts)
