"""Tables of clips for tests of the splits."""

import numpy as np
import pandas as pd

SENTENCES = ("IEO", "TIE", "IOM", "IWW", "TAI", "MTI", "IWL", "ITH", "DFA", "ITS", "TSI", "WSI")


def labels(corpus):
    """Labels of a corpus as the splits take them."""
    return pd.DataFrame(
        [{"id": c.id, "emotion": c.emotion, "speaker": c.speaker, "text": c.text, "fold": c.fold} for c in corpus.clips]
    )


def cremad_names():
    """7,442 names: 91 actors x 12 sentences x 6 emotions, "IEO" in three intensities but for neutral, 20 missing."""
    stems = [
        f"{actor}_{sentence}_{emotion}_{level}"
        for actor in range(1001, 1092)
        for sentence in SENTENCES
        for emotion in ("ANG", "DIS", "FEA", "HAP", "NEU", "SAD")
        for level in (("LO", "MD", "HI") if sentence == "IEO" and emotion != "NEU" else ("XX",))
    ]
    missing = set(np.random.default_rng(0).choice(len(stems), len(stems) - 7442, replace=False).tolist())
    return [stem for i, stem in enumerate(stems) if i not in missing]


def mesd_names():
    """864 names: 6 emotions x 3 voice types x (24 words of list A, which all share, and 24 of list B of their own)."""
    return [
        f"{emotion}_{voice}_{kind}_{'palabra' if kind == 'A' else emotion.lower()}{word}"
        for emotion in ("Anger", "Disgust", "Fear", "Happiness", "Neutral", "Sadness")
        for voice in "CFM"
        for kind in "AB"
        for word in range(24)
    ]


def small(clips=120, speakers=6, texts=5, emotions=3, seed=0):
    """A generated table: every speaker says every text with every emotion, unevenly often."""
    rng = np.random.default_rng(seed)
    grid = [(s, t, e) for s in range(speakers) for t in range(texts) for e in range(emotions)]
    more = [grid[i] for i in rng.integers(0, len(grid), max(clips - len(grid), 0))]
    return pd.DataFrame(
        [
            {"id": f"clip{i:04}", "emotion": f"e{e}", "speaker": f"s{s}", "text": f"t{t}", "fold": None}
            for i, (s, t, e) in enumerate(grid + more)
        ]
    )
