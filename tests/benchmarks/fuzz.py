"""Hostile inputs by the hundred thousand for everything that reads what comes from outside.

    python tests/benchmarks/fuzz.py [TARGET ...] [--count N | --seconds S] [--seed N] [--only NUMBER]

Every input is valid text or data changed a little: tokens put in, bytes flipped, parts cut, doubled and swapped. It is
made from target, seed and its number alone, so `--only` makes one of them again. For each target it says how many
inputs there were, how many a second, and what failed: each place in the code once, with the first input that led there.
The exit code is 1 when something failed.
"""

from __future__ import annotations

import argparse
import resource
import sys
from itertools import count
from pathlib import Path

TESTS = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(TESTS.parent), str(TESTS)]

from fuzzing.engine import Finding  # noqa: E402
from fuzzing.targets import TARGETS, fuzz  # noqa: E402

MEMORY = 2 << 30
"""Bytes of address space beyond which an input fails."""


def report(name: str, seed: int, finding: Finding) -> str:
    """All that is needed to see a failure again."""
    again = f"python tests/benchmarks/fuzz.py {name} --seed {seed} --only {finding.number}"
    return f"{name}: {finding.where} ({finding.count} times); again: {again}\n{finding.trace}input: {finding.shown}\n"


def main() -> int:
    """Run what was asked for and print a line for each target."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("targets", nargs="*", metavar="TARGET", help=f"{', '.join(TARGETS)}; none: all of them")
    parser.add_argument("--count", type=int, default=1000, help="inputs for each target")
    parser.add_argument("--seconds", type=float, help="seconds for each target, instead of a count")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", type=int, metavar="NUMBER", help="one input of one target")
    arguments = parser.parse_args()
    if unknown := set(arguments.targets) - set(TARGETS):
        parser.error(f"there is no target {', '.join(sorted(unknown))}")
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    numbers: range | count[int] = count() if arguments.seconds else range(arguments.count)
    if arguments.only is not None:
        numbers = range(arguments.only, arguments.only + 1)
    failed = total = 0
    for name in arguments.targets or TARGETS:
        outcome = fuzz(name, arguments.seed, numbers, arguments.seconds)
        failed, total = failed + len(outcome.findings), total + outcome.inputs
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10
        print(
            f"{name}: {outcome.inputs} inputs in {outcome.seconds:.1f} s ({outcome.inputs / outcome.seconds:.0f}/s), "
            f"slowest {outcome.slowest:.3f} s (number {outcome.slowest_number}), memory {peak} MB, findings: {len(outcome.findings)}",
            flush=True,
        )
        for finding in outcome.findings.values():
            print(report(name, arguments.seed, finding), flush=True)
    print(f"{total} inputs, {failed} findings")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
