"""Who looks after the kernels of a state folder: one server at a time, for of two each would end the other's."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path

from builder.errors import ConfigError

FILE = "kernels.lock"


class Claim:
    """A lock on a file of a state folder; it ends with the process, however that ends."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._descriptor = -1

    def take(self) -> None:
        """Take it, until `release`. Raises ConfigError when another server has it."""
        try:
            self._descriptor = os.open(self._folder / FILE, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            self.release()
            raise ConfigError(
                f"Another run-shim looks after the kernels of {self._folder}; stop it first, give this one another "
                "state_dir, or switch its kernels off."
            ) from None
        except OSError:
            # There are file systems without locks; whoever shares a state folder there has to take care.
            self.release()

    def release(self) -> None:
        """Let others have it."""
        descriptor, self._descriptor = self._descriptor, -1
        if descriptor >= 0:
            os.close(descriptor)
