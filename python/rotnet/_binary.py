"""The program itself: where it is, and how it is called."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import sysconfig
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import IO

#: Environment variable that names another program than the one installed with this package.
VARIABLE = "ROTNET_BINARY"


class Error(RuntimeError):
    """The program failed; the text is its line of error: what, where, how to mend it."""

    def __init__(self, message: str, code: int) -> None:
        super().__init__(message)
        #: Exit status: 1 the work failed, 2 usage or config, 130, 143 or 138 stopped by a signal.
        self.code = code


def binary() -> str:
    """The path of the program: ROTNET_BINARY, or what was installed beside Python, or else what PATH has."""
    named = os.environ.get(VARIABLE)
    if named:
        return named
    name = "rotnet.exe" if os.name == "nt" else "rotnet"
    user = sysconfig.get_preferred_scheme("user") if sys.version_info >= (3, 10) else None
    folders = [sysconfig.get_path("scripts")] + ([sysconfig.get_path("scripts", user)] if user else [])
    for folder in folders:
        if (Path(folder) / name).is_file():
            return str(Path(folder) / name)
    found = shutil.which(name)
    if found is None:
        raise FileNotFoundError(f"there is no program called {name}: install the wheel, or set {VARIABLE}")
    return found


def call(arguments: Sequence[str | os.PathLike[str]], progress: bool = False) -> str:
    """Runs the program and returns its standard output; with `progress`, standard error goes to sys.stderr line by line.

    Raises `Error` with the line of error if the program fails. If Python is interrupted, the program is asked to stop
    and saves its state; then the interruption goes on, with the program's line.
    """
    words = [binary(), *(os.fspath(word) for word in arguments)]
    # A file for the output, so that only one stream has to be read while the program works.
    with tempfile.TemporaryFile("w+", encoding="utf-8") as output:
        with subprocess.Popen(
            words, stdout=output, stderr=subprocess.PIPE, encoding="utf-8", errors="replace"
        ) as process:
            assert process.stderr is not None
            try:
                error = _follow(process.stderr, progress)
            except KeyboardInterrupt:
                # A terminal sends the program the interruption as well, and a second one would end it at once; this
                # signal asks for the same, and never does.
                process.send_signal(getattr(signal, "SIGUSR1", signal.SIGTERM))
                raise KeyboardInterrupt(_follow(process.stderr, progress)) from None
        if process.returncode:
            raise Error(error or f"rotnet ended with status {process.returncode}", process.returncode)
        output.seek(0)
        return output.read()


def _follow(lines: IO[str], progress: bool) -> str:
    """Passes lines on; returns the one that says what is wrong, or else the last."""
    error, last = "", ""
    for line in lines:
        if line.startswith("error: "):
            error = line.removeprefix("error: ").strip()
            continue
        last = line.strip() or last
        if progress:
            sys.stderr.write(line)
            sys.stderr.flush()
    return error or last
