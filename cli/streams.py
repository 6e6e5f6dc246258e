"""Standard output and standard error: fit to be written to, whatever they are and whoever else writes to them."""

import io
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any, TextIO


class OutputError(OSError):
    """Standard output cannot be written."""


def printable(text: str) -> str:
    """Text for a terminal: of the control characters only line breaks and tabs are left, others become escapes."""
    return "".join(
        letter if letter in "\n\t" or not (ord(letter) < 32 or 127 <= ord(letter) < 160) else f"\\x{ord(letter):02x}"
        for letter in text
    )


@contextmanager
def guarded(arguments: Sequence[str]) -> Iterator[None]:
    """Make the streams safe to write to for as long as a command runs in a process of its own.

    - Standard error that cannot be written is done without.
    - A stream that is closed leads nowhere, instead of into whichever file is opened next.
    - A letter that the stream's encoding lacks, or half a character, is written as an escape (`\\u03ba`).
    - What libraries write past Python never reaches standard output, and under `--quiet` or `--json` not the screen.

    Streams that somebody put in place of the process's own (a test, a notebook) are left alone.

    Raises:
        OutputError: standard output cannot be written to its end.
        BrokenPipeError: nobody reads it any longer.
    """
    if not _own_process():
        yield
        return
    for number in (0, 1, 2):
        _open_somewhere(number)
    quiet = any(argument in ("--quiet", "--json") for argument in arguments)
    sys.stdout, sys.stderr = _apart(1, sys.stdout), _apart(2, sys.stderr)
    nowhere = os.open(os.devnull, os.O_RDWR)
    if quiet:
        os.dup2(nowhere, 2)
    os.dup2(2, 1)
    os.close(nowhere)
    try:
        yield
    finally:
        with suppress(OSError, ValueError):
            sys.stderr.flush()
        try:
            sys.stdout.flush()
        except BaseException:
            abandon_output()
            raise


def abandon_output() -> None:
    """Let what could not be written go, so that the end of the process does not try again."""
    sys.stdout = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115


def _own_process() -> bool:
    return sys.stdout is sys.__stdout__ and sys.stderr is sys.__stderr__


def _open_somewhere(number: int) -> None:
    """See that a file descriptor is open."""
    try:
        os.fstat(number)
    except OSError:
        found = os.open(os.devnull, os.O_RDWR)
        if found != number:
            os.dup2(found, number)
            os.close(found)


def _apart(number: int, stream: TextIO | None) -> TextIO:
    """A stream of Python's own to where `number` leads, so that the number itself can be sent elsewhere."""
    if stream is not None:
        with suppress(OSError, ValueError):
            stream.flush()
    raw = _Raw(os.dup(number), "wb")
    raw.needed = number == 1
    encoding = getattr(stream, "encoding", None) or "utf-8"
    return io.TextIOWrapper(
        io.BufferedWriter(raw), encoding=encoding, errors="backslashreplace", line_buffering=number == 2 or raw.isatty()
    )


class _Raw(io.FileIO):
    """A file descriptor that says of itself when it cannot be written, or passes over it where it is not `needed`."""

    needed = True

    def write(self, data: Any) -> int | None:
        try:
            return super().write(data)
        except (BlockingIOError, BrokenPipeError) as error:
            if self.needed or isinstance(error, BlockingIOError):
                raise
        except OSError as error:
            if self.needed:
                raise OutputError(error.errno, error.strerror) from error
        return len(data)
