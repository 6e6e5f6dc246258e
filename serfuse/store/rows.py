"""Which rows of which parts are asked for, and reading them into one array."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ..progress import Observer
from .part import Part, one_array

_MAPPED_BYTES = 1 << 26  # less than this is read, so that nothing depends on a file that may go away
_TOLD_ROWS = 1 << 14


@dataclass(frozen=True)
class Selection:
    """The clips of a corpus that have a row, and where it is.

    Attributes:
        clips: the numbers of the clips in the table, ascending, int64.
        size: length of a vector.
        parts: the files.
        part: of each clip, int32.
        row: of each clip within its part, int64.
    """

    clips: np.ndarray
    size: int
    parts: Sequence[Part]
    part: np.ndarray
    row: np.ndarray

    def matrix(self, which: np.ndarray | None = None, observer: Observer | None = None) -> np.ndarray:
        """The vectors of some of the clips, verified.

        Args:
            which: positions in `clips`, in the order that is asked for; `None` for all.
            observer: hears of the rows that were read.

        Returns:
            float32, shape `(len(which), size)`. Many rows that lie one behind the other are mapped: they are read when
            they are looked at, and the system may forget them again. Others are read into memory.

        Raises:
            DamageError: a part is not as it was written.
            FileNotFoundError: a compaction has taken a part away meanwhile.
        """
        part, row = (self.part, self.row) if which is None else (self.part[which], self.row[which])
        observer = observer or Observer()
        total = len(row)
        done = told = 0

        def moved(count: int) -> None:
            nonlocal done, told
            done += count
            if done - told >= _TOLD_ROWS or done == total:
                told = done
                observer.advance(done)

        with observer.working("reading embeddings", total, "row"):
            if total and worth_mapping(self.size, total) and (part == part[0]).all():
                found = self.parts[part[0]].mapped(row, moved)
                if found is not None:
                    return found
            matrix = np.empty((total, self.size), np.float32)
            for number in np.unique(part):
                at = np.flatnonzero(part == number)
                at = at[np.argsort(row[at], kind="stable")]
                self.parts[number].read(row[at], matrix, at, moved)
        return matrix


def worth_mapping(size: int, total: int) -> bool:
    """Whether so many vectors of `size` values are mapped where they can be."""
    return 4 * size * total >= _MAPPED_BYTES


def select(parts: Sequence[Part], ids: pa.ChunkedArray, audio: pa.ChunkedArray) -> tuple[Selection, pa.Array]:
    """The rows that belong to the present audio of clips; of several for one clip, that in the last part.

    Args:
        parts: in the order in which they were written.
        ids: of the clips, each once.
        audio: the identity of the audio of each, null where it cannot be read.

    Returns:
        the rows, and the ids of the clips that have one, as large strings.

    Raises:
        DamageError: a part is not as it was written.
        FileNotFoundError: a compaction has taken a part away meanwhile.
    """
    if len(parts) == 1 and parts[0].holds(ids, audio):  # the rule after `extract`, and no reason to copy all of it
        every = np.arange(len(ids))
        return Selection(every, parts[0].size, parts, np.zeros(len(ids), np.int32), every), one_array(ids)
    ids, audio = one_array(ids), one_array(audio)
    owner = np.full(len(ids), -1, np.int32)
    row = np.zeros(len(ids), np.int64)
    for part in parts:
        if part.size != parts[0].size:
            raise part.damaged(
                f"its vectors have {part.size} values, and those of {parts[0].path.name} {parts[0].size}"
            )
    for some, have, of in texts(parts, len(ids)):
        at, known = current(have, of, ids, audio)
        counts = [parts[number].rows for number in some]
        begins = np.repeat(np.cumsum([0, *counts[:-1]]), counts)
        owner[at] = np.repeat(some, counts)[known]  # of two the last is kept
        row[at] = known - begins[known]
    clips = np.flatnonzero(owner >= 0)
    chosen = Selection(clips, parts[0].size if parts else 0, parts, owner[clips], row[clips])
    return chosen, ids.take(pa.array(clips))


def texts(parts: Sequence[Part], least: int) -> Iterator[tuple[range, pa.Array, pa.Array]]:
    """Ids and audio identities of parts, of several at a time: each time what is looked up has to be hashed anew.

    Args:
        parts: of which there may be thousands.
        least: rows that come at a time, but for the last ones; about as many as they are looked up among.

    Returns:
        the numbers of the parts, and the texts of their rows one behind the other.
    """
    begin = held = 0
    found: list[tuple[pa.Array, pa.Array]] = []
    for number, part in enumerate(parts):
        found.append(part.texts())
        held += part.rows
        if held >= least or number + 1 == len(parts):
            ids, audio = found[0] if len(found) == 1 else map(pa.concat_arrays, zip(*found, strict=True))
            yield range(begin, number + 1), ids, audio
            begin, held = number + 1, 0
            found.clear()


def current(have: pa.Array, of: pa.Array, ids: pa.Array, audio: pa.Array) -> tuple[np.ndarray, np.ndarray]:
    """Which rows are of clips as their audio is.

    Args:
        have: the clip id of each row.
        of: the audio identity of each row.
        ids: of the clips, each once.
        audio: the identity of the audio of each, null where it cannot be read.

    Returns:
        the clips' numbers and the rows' numbers, int64, in the order of the rows.
    """
    at = numbers(have, ids)
    known = np.flatnonzero(at >= 0)
    same = pc.fill_null(pc.equal(audio.take(pa.array(at[known])), of.take(pa.array(known))), False)
    known = known[same.to_numpy(zero_copy_only=False)]
    return at[known], known


def numbers(texts: pa.Array, among: pa.Array) -> np.ndarray:
    """The place of each text in `among`, int64; -1 where it is not there."""
    if texts.equals(among):
        return np.arange(len(texts))
    found = pc.index_in(texts, value_set=among)
    return pc.fill_null(found, -1).to_numpy(zero_copy_only=False).astype(np.int64)
