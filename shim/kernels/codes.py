"""Codes with which WebSockets are closed."""

from __future__ import annotations

from enum import IntEnum


class Code(IntEnum):
    """Why a WebSocket is closed."""

    NORMAL = 1000
    GOING_AWAY = 1001
    PROTOCOL = 1002
    NO_STATUS = 1005
    POLICY = 1008
    TOO_LARGE = 1009
    LOST = 1011
    RESTART = 1012
    TOO_SLOW = 1013
    LOGGED_OUT = 4401
    """The login of the client has ended, and it is no use to try again without another one."""
    GONE = 4404
    """The kernel has ended, and it is no use to try again."""
