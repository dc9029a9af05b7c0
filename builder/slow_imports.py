"""Import this before nbformat: what makes that slow, and is of no use here, is left out.

nbformat imports jsonschema. Where a package for the syntax of international addresses is installed, jsonschema builds a
grammar with it when it is imported: some seconds, for a check that no schema of notebooks asks for.
"""

from __future__ import annotations

import sys

_SYNTAX = "rfc3987_syntax"

if _SYNTAX not in sys.modules:
    # None makes the import fail, which jsonschema expects where the package is not installed.
    sys.modules[_SYNTAX] = None  # type: ignore[assignment]
    try:
        import jsonschema  # type: ignore[import-untyped] # noqa: F401
    finally:
        del sys.modules[_SYNTAX]
