"""The errors nbfolio raises on purpose; every message is a sentence a user can act on."""

from __future__ import annotations


class NbfolioError(Exception):
    """Base of all errors below; command lines print the message and no traceback."""


class ConfigError(NbfolioError):
    """Raised while settings are read: unknown key, wrong type, unreadable secret."""


class OutputError(NbfolioError):
    """Raised when the output folder cannot be used: foreign content, another builder, no space."""


class ThemeError(NbfolioError):
    """Raised when a theme is missing or incomplete."""


class NotebookError(NbfolioError):
    """Raised when one notebook or bundle cannot be read; the build goes on with the others."""

    def __init__(self, message: str, cell: int | None = None) -> None:
        super().__init__(message)
        self.cell = cell


class ChangedError(NotebookError):
    """Raised when a file is not any more what the scan saw, so a page made from it could be a mix of two versions."""


class UnsafePathError(NbfolioError):
    """Raised when a path from outside would leave its folder or has a forbidden form."""
