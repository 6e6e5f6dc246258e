"""What one process does of a job, where several fill the same store."""

from collections.abc import Callable, Iterable, Mapping, Sequence

from ..claims import Claims
from ..corpora.base import Clip
from ..store import AudioFacts, EmbeddingStore
from .job import Job


class Share:
    """The clips that a job lacks rows of, and which of them this process may compute.

    A clip is claimed before it is decoded and let go of once its row is stored, and after a claim the store is asked
    again: so nothing is computed after somebody has stored it. A claim ends with its process, however that ends.

    Args:
        store: that is filled.
        corpus: its name.
        clips: wanted, in order.
        facts: what each clip's audio is, by clip id.
        job: what is computed.
        claims: of the processes on this store.

    Raises:
        StoreError: a part of the store is damaged.
    """

    def __init__(
        self,
        store: EmbeddingStore,
        corpus: str,
        clips: Sequence[Clip],
        facts: Mapping[str, AudioFacts],
        job: Job,
        *,
        claims: Claims,
    ) -> None:
        self._claims = claims
        self._keys = [output.key.digest for output in job.outputs]
        self._arrivals = [store.arrivals(corpus, output.key) for output in job.outputs]
        self._lacking: list[dict[str, str | None]] = [
            {clip.id: facts[clip.id].audio for clip in clips} for _ in job.outputs
        ]
        self._keys_left = dict.fromkeys((clip.id for clip in clips), len(job.outputs))
        self.mine: set[str] = set()
        """Claimed and not yet settled."""
        self.arrived: Callable[[str], None] = lambda clip: None
        """Called with each clip that another process has finished."""
        self.look()

    def lacks(self, clip: str) -> bool:
        """Whether a clip has no row yet of its present audio, under one of the keys, nor a reason to have none."""
        return clip in self._keys_left

    def lacking(self, clip: str) -> set[int]:
        """Numbers of the outputs that a clip has no row under."""
        return {place for place, lacking in enumerate(self._lacking) if clip in lacking}

    @property
    def left(self) -> int:
        """How many clips it lacks, under one of the keys at least."""
        return len(self._keys_left)

    def left_of(self, place: int) -> int:
        """How many clips an output lacks."""
        return len(self._lacking[place])

    def look(self) -> None:
        """Take notice of rows that were stored since the last time, by whichever process.

        Raises:
            StoreError: a part of the store is damaged.
        """
        for lacking, arrivals in zip(self._lacking, self._arrivals, strict=True):
            for clip, audio in arrivals.new():
                if audio is not None and lacking.get(clip) == audio:
                    del lacking[clip]
                    self._keys_left[clip] -= 1
                    if not self._keys_left[clip]:
                        del self._keys_left[clip]
                        self.arrived(clip)

    def take(self, clips: Iterable[str]) -> None:
        """Claim those that are lacking and that nobody else computes now; then they are in `mine`.

        Raises:
            StoreError: the claims cannot be written.
        """
        asked = [clip for clip in clips if clip not in self.mine and self.lacks(clip)]
        taken = [clip for clip in asked if self._take(clip)]
        if taken:
            self.look()
            self.mine.update(clip for clip in taken if self.lacks(clip))
            self._let_go(clip for clip in taken if clip not in self.mine)

    def settle(self, clips: Iterable[str]) -> None:
        """Let go of clips whose rows are stored, or that cannot be used."""
        for clip in clips:
            self._keys_left.pop(clip, None)
            for lacking in self._lacking:
                lacking.pop(clip, None)
            self.mine.discard(clip)
            self._let_go([clip])

    def give_up(self) -> None:
        """Let go of everything: others may compute it."""
        self._let_go(self.mine)
        self.mine = set()

    def _take(self, clip: str) -> bool:
        got: list[str] = []
        for key in self._keys:
            if not self._claims.take(f"{key}/{clip}"):
                for other in got:
                    self._claims.release(f"{other}/{clip}")
                return False
            got.append(key)
        return True

    def _let_go(self, clips: Iterable[str]) -> None:
        for clip in clips:
            for key in self._keys:
                self._claims.release(f"{key}/{clip}")
