"""What can be refused about kernels; every message is a sentence for the reader of a page."""

from __future__ import annotations

from builder.errors import NbfolioError


class UnknownPageError(NbfolioError):
    """Raised when no page has the path."""


class UnknownKernelError(NbfolioError):
    """Raised when there is no such kernel or session, or it is somebody else's."""


class NotLiveError(NbfolioError):
    """Raised when the page has no live cells."""


class StalePageError(NbfolioError):
    """Raised when the page is not the one that the client shows."""


class BusyError(NbfolioError):
    """Raised when no more kernels can be had now."""

    def __init__(self, message: str, place: int) -> None:
        super().__init__(message)
        self.place = place
        """The caller's place in the line, 1 for the first."""


class NotReadyError(NbfolioError):
    """Raised while the server starts or stops."""


class OccupiedError(NotReadyError):
    """Raised when others have to be done before."""


class SocketsError(NbfolioError):
    """Raised when no more WebSockets can be opened."""
