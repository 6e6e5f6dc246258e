"""A network in a process of its own, with limits, so that one from anybody can be killed.

What a network would take is counted before it is built (`keras_file`), by shapes. This is the second line: should a
count miss something, or a damaged file crash a native library, the process ends and the caller has an error.

Messages both ways are a length, a JSON object and plain arrays; what the process answers is checked and never executed.
"""

import contextlib
import json
import math
import os
import selectors
import signal
import struct
import subprocess
import sys
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import psutil

from ..errors import ExtensionError, ModelFileError
from ..experiment import backend
from . import keras_file
from .bundle import Bundle, Card, Checked, most_probable

_LENGTH = struct.Struct("<I")
_MOST_WORDS = 1 << 24  # of a message beside its arrays
_LOOK_SECONDS = 0.05
_CODE = "from serfuse.prediction import isolation; isolation.serve()"
_ERRORS = {error.__name__: error for error in (ModelFileError, ExtensionError)}


@dataclass(frozen=True)
class Limits:
    """What the process of a network may take before it is killed.

    Attributes:
        memory: bytes that it may grow by, beyond the libraries it starts with; the file's own size is added twice.
        seconds: of processor time, on all cores together, for building the network and for each batch of clips.
        command: what the process is started under, such as a sandbox: `("bwrap", "--unshare-net", ...)`. It must hand
            on standard input and output, and signals.
    """

    memory: int = 3 << 30
    seconds: float = 300.0
    command: tuple[str, ...] = ()


class NetworkProcess:
    """A network that is built and asked in a process of its own; it answers as `Bundle` does, to the last digit.

    The process starts at once, and imports its libraries while the caller does something else; `load` then gives it the
    network. Use it as a context, or `close` it.

    Args:
        limits: of the process.
    """

    def __init__(self, limits: Limits | None = None) -> None:
        self._limits = limits or Limits()
        backend.backend_name()  # what is wrong with the choice is said here
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
        command = [*self._limits.command, sys.executable, "-P", "-c", _CODE]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment)
        self._watched = psutil.Process(self._process.pid)
        self._memory: float = math.inf
        self._path = Path()
        self._card: Card | None = None

    @property
    def card(self) -> Card:
        """What the model says of itself."""
        return self._card

    def load(self, checked: Checked) -> None:
        """Build the network.

        Raises:
            ModelFileError: it is refused, does not fit its card, or takes more than the limits allow.
            ExtensionError: the model comes from another package, which is broken.
        """
        self._path, self._card = checked.path, checked.card
        self._receive()  # the libraries are there; only from here on anything depends on the file
        self._memory = self._resident() + self._limits.memory + 2 * checked.unpacked.stat().st_size
        asked = {"path": str(checked.path), "unpacked": str(checked.unpacked), "card": checked.card.model_dump_json()}
        self._ask(asked)

    def probabilities(self, arrays: Mapping[str, np.ndarray]) -> np.ndarray:
        """As `Bundle.probabilities`.

        Raises:
            ModelFileError: other inputs than the network was trained on, or it takes more than the limits allow.
        """
        rows, found = len(next(iter(arrays.values()), ())), []
        for start in range(0, max(rows, 1), keras_file.BATCH):
            batch = {
                name: np.ascontiguousarray(array[start : start + keras_file.BATCH]) for name, array in arrays.items()
            }
            told = [[name, array.dtype.str, array.shape] for name, array in batch.items()]
            self._ask({"arrays": told}, list(batch.values()))
            shape = (min(keras_file.BATCH, rows - start), len(self._card.classes))
            data = self._read(math.prod(shape) * 8, self._deadline())
            found.append(np.frombuffer(data, "<f8").reshape(shape))
        return np.concatenate(found)

    def answers(self, arrays: Mapping[str, np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
        """As `Bundle.answers` of a network: probabilities, and the most probable classes."""
        found = self.probabilities(arrays)
        return found, most_probable(found)

    def close(self) -> None:
        """End the process."""
        self._process.kill()
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            with contextlib.suppress(OSError):
                pipe.close()

    def __enter__(self) -> "NetworkProcess":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # -- messages --------------------------------------------------------------------------------------------

    def _ask(self, words: dict[str, Any], arrays: list[np.ndarray] | None = None) -> dict[str, Any]:
        """Send a message, and give the answer's words."""
        try:
            _send(self._process.stdin, words, arrays or [])
        except OSError:
            self._end(self._death())
        return self._receive()

    def _receive(self) -> dict[str, Any]:
        deadline = self._deadline()
        (length,) = _LENGTH.unpack(self._read(_LENGTH.size, deadline))
        if length > _MOST_WORDS:
            self._end("its process gave an answer of an impossible size")
        try:
            found = json.loads(self._read(length, deadline))
        except ValueError:
            self._end("its process gave no answer that can be read")
        if isinstance(found, dict) and "error" in found:
            raise _ERRORS.get(found["error"], ModelFileError)(str(found.get("text")))
        return found

    def _read(self, size: int, deadline: float) -> bytes:
        """So many bytes of an answer; the process is watched while it is waited for."""
        found = bytearray()
        with selectors.DefaultSelector() as waiting:
            waiting.register(self._process.stdout, selectors.EVENT_READ)
            while len(found) < size:
                if waiting.select(_LOOK_SECONDS):
                    part = os.read(self._process.stdout.fileno(), min(size - len(found), 1 << 20))
                    if not part:
                        self._end(self._death())
                    found += part
                else:
                    self._watch(deadline)
        return bytes(found)

    # -- the watch -------------------------------------------------------------------------------------------

    def _watch(self, deadline: float) -> None:
        if self._resident() > self._memory:
            self._end(f"it took more than {self._limits.memory >> 20} MB of memory")
        if self._processor() > deadline:
            self._end(f"it took more than {self._limits.seconds:g} s of processor time")

    def _deadline(self) -> float:
        return self._processor() + self._limits.seconds

    def _processor(self) -> float:
        with contextlib.suppress(psutil.Error):
            used = self._watched.cpu_times()
            return used.user + used.system
        return 0.0

    def _resident(self) -> int:
        with contextlib.suppress(psutil.Error):
            return self._watched.memory_info().rss
        return 0

    def _death(self) -> str:
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(5)
        code = self._process.poll()
        if code is not None and code < 0:
            return f"its process was ended by {signal.Signals(-code).name}"
        return "its process has ended" if code is None else f"its process ended with code {code}"

    def _end(self, why: str) -> None:
        """Kill the process, and say why.

        Raises:
            ModelFileError: always.
        """
        self.close()
        raise ModelFileError(
            f"The network of {self._path} was stopped: {why}. A model that `serfuse train` wrote does not do so: do "
            "not use it."
        )


# -- in the process ----------------------------------------------------------------------------------------------


def serve() -> None:
    """Load a network and answer for it, until nobody asks any longer. For the process itself."""
    words_in, words_out = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what libraries print is no answer
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's affair
    _end_with_parent()
    backend.set_up_backend()
    try:
        _send(words_out, {})
        model: Bundle | None = None
        while True:
            (length,) = _LENGTH.unpack(_exactly(words_in, _LENGTH.size))
            words = json.loads(_exactly(words_in, length))
            if "card" in words:
                card = Card.model_validate_json(words["card"])
                answer = _guarded(lambda: Checked(card, Path(words["path"]), Path(words["unpacked"])).load())  # noqa: B023
                model = answer if isinstance(answer, Bundle) else None
                _send(words_out, {} if model else answer)
                continue
            arrays = {name: _array(words_in, kind, shape) for name, kind, shape in words["arrays"]}
            answer = _guarded(lambda: model.probabilities(arrays))  # noqa: B023
            if isinstance(answer, np.ndarray):
                _send(words_out, {}, [answer.astype("<f8", copy=False)])
            else:
                _send(words_out, answer)
    except (EOFError, OSError):  # the parent is gone
        os._exit(0)


def _guarded(work: Any) -> Any:
    try:
        return work()
    except tuple(_ERRORS.values()) as error:
        return {"error": type(error).__name__, "text": str(error)}
    except Exception as error:  # whatever a network does that nobody thought of
        return {"error": "ModelFileError", "text": f"The network fails ({type(error).__name__}: {str(error)[:300]})."}


def _array(stream: BinaryIO, kind: str, shape: list[int]) -> np.ndarray:
    size = math.prod(shape) * np.dtype(kind).itemsize
    return np.frombuffer(_exactly(stream, size), kind).reshape(shape)


def _exactly(stream: BinaryIO, size: int) -> bytes:
    found = stream.read(size)
    if len(found) < size:
        raise EOFError
    return found


def _send(stream: BinaryIO, words: dict[str, Any], arrays: list[np.ndarray] | None = None) -> None:
    text = json.dumps(words).encode()
    stream.write(_LENGTH.pack(len(text)) + text)
    for array in arrays or ():
        stream.write(array.tobytes())
    stream.flush()


def _end_with_parent() -> None:
    """End this process when its parent has, even by SIGKILL and in the middle of a computation."""
    parent = os.getppid()

    def watch() -> None:
        while os.getppid() == parent:
            ended.wait(1)
        os._exit(1)

    ended = threading.Event()
    threading.Thread(target=watch, daemon=True, name="watch-parent").start()
