"""`serfuse extract` with logmel against the loop that a user would write. Prints a table for extract.md.

python benchmarks/extract.py EMODB_WAV_FOLDER
"""

import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

LOOP = """
import sys
from pathlib import Path
import librosa, numpy as np, soundfile
names, rows = [], []
for path in sorted(Path(sys.argv[1]).glob("*.wav")):
    wave, rate = soundfile.read(path, dtype="float32")
    power = librosa.feature.melspectrogram(y=wave, sr=rate, n_fft=400, hop_length=160, n_mels=80, center=False)
    mel = np.log(power.T + 1e-6)
    slope = np.abs(librosa.feature.delta(mel, width=5, axis=0, mode="nearest"))
    names.append(path.stem)
    rows.append(np.concatenate([mel, slope], axis=1).mean(axis=0))
np.savez(sys.argv[2], names=names, rows=np.stack(rows))
"""


def cost(command: list[str]) -> tuple[float, float]:
    """Wall and processor seconds of a process; the latter hold on a busy machine too."""
    begun, before = time.perf_counter(), resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    used = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return time.perf_counter() - begun, used


def main() -> None:
    import numpy as np

    from serfuse.store import EmbeddingStore

    data = sys.argv[1]
    with tempfile.TemporaryDirectory() as folder:
        extract = [str(Path(sys.executable).parent / "serfuse"), "extract", "--corpus", "emodb", "--data", data]
        extract += ["--encoder", "logmel", "--store", f"{folder}/store"]
        plain = cost([sys.executable, "-c", LOOP, data, f"{folder}/loop.npz"])
        ours = cost(extract)
        again = cost(extract)
        store = EmbeddingStore(f"{folder}/store")
        ids, matrix = store.load("emodb", store.find("emodb", "logmel"))
        with np.load(f"{folder}/loop.npz") as saved:
            assert ids == list(saved["names"])
            difference = float(np.abs(matrix - saved["rows"]).max())
    print("| 535 clips of Emo-DB, start of the program included | wall s | processor s |\n|---|---|---|")
    for name, (wall, used) in (("plain loop", plain), ("serfuse extract", ours), ("serfuse extract again", again)):
        print(f"| {name} | {wall:.1f} | {used:.1f} |")
    print(f"\nRatio of processor time {ours[1] / plain[1]:.2f}; largest difference of the numbers {difference:.2g}.")


if __name__ == "__main__":
    main()
