"""What an extraction did."""

from dataclasses import dataclass, field
from typing import Any

from ..audio.quality import Remark
from ..store import EmbeddingKey
from . import hearing


@dataclass
class ExtractReport:
    """What one `extract` did.

    Attributes:
        encoder: name.
        key: under which the rows are; `None` when the encoder could not run.
        done: clips computed now.
        reused: clips whose row was already in the store.
        failed: `(clip id, reason)` of clips that have no row.
        skip_bad: the failed ones were recorded as skipped.
        seconds: wall time of this call.
        audio_seconds: length of the audio computed now.
        vector_size: length of a vector; 0 when there is none.
        error: why the encoder could not run; empty when it did.
        remarks: by clip id, what is odd about clips that were decoded now or before; see `serfuse.audio.quality`.
    """

    encoder: str
    key: EmbeddingKey | None = None
    done: int = 0
    reused: int = 0
    failed: list[tuple[str, str]] = field(default_factory=list)
    skip_bad: bool = False
    seconds: float = 0.0
    audio_seconds: float = 0.0
    vector_size: int = 0
    error: str = ""
    remarks: dict[str, list[Remark]] = field(default_factory=dict)

    @property
    def complete(self) -> bool:
        """Whether every clip has its row, or was skipped because that was asked for and others have theirs."""
        if self.error:
            return False
        return not self.failed or (self.skip_bad and bool(self.done or self.reused))

    def to_dict(self) -> dict[str, Any]:
        """JSON values."""
        if self.key is None:
            return {"encoder": self.encoder, "error": self.error}
        return {
            "encoder": self.encoder,
            "key": self.key.to_dict(),
            "name": self.key.folder,
            "random_weights": self.key.random,
            "done": self.done,
            "reused": self.reused,
            "failed": [{"clip": clip, "reason": reason} for clip, reason in self.failed],
            "skipped": self.skip_bad,
            "seconds": round(self.seconds, 3),
            "audio_seconds": round(self.audio_seconds, 3),
            "vector_size": self.vector_size,
            "remarks": hearing.as_dict(self.remarks),
        }


class Interrupted(KeyboardInterrupt):
    """Ctrl-C during `extract`, after the finished clips were stored.

    Attributes:
        report: what was done until then; of several encoders, of the first.
        reports: of each encoder that had begun.
    """

    def __init__(self, *reports: ExtractReport) -> None:
        super().__init__(*reports)
        self.report = reports[0]
        self.reports = list(reports)
