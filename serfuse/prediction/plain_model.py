"""Models that are not networks, as plain arrays: support vector machines, and late fusions of them.

A file of them is in the layout of safetensors (https://huggingface.co/docs/safetensors): eight bytes with the length of
a JSON header, the header, and float64 numbers. Nothing in it can be executed; reading it takes memory, and predicting
takes time, in proportion to its size. What is predicted from it equals what scikit-learn's fitted objects give.
"""

import json
import struct
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from ..encoders.checks import shown as shown_line
from ..errors import ModelFileError, RunError
from ..experiment.calibration import PairwiseCalibration
from ..experiment.config import explain
from ..models import regression
from ..models.kernel import MeanKernel, mean_rbf
from ..models.late import Experts, Late, geometric_mean, log_features, sound_weights
from ..models.stacked import Stacked
from ..models.task import Expert

MAX_HEADER_BYTES = 2**20
MAX_BYTES = 2**31
_DEGREE, _CONSTANT = 3, 0.0  # of scikit-learn's polynomial and sigmoid kernels, which no option changes
MAX_PAIRS = 2**16
"""Most pairs of classes that the machines of a file decide between together; 362 classes of one, 128 of each of 8."""

_ROWS = 512  # clips that are compared with the support vectors at once,
_VALUES = 2**22  # or fewer: so many kernel values, or decisions, are held at once
_MOST = 10**7
_WIDEST = float(np.finfo("float32").max)


class _Record(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False, strict=True)


Count = Annotated[int, Field(ge=1, le=_MOST)]
Name = Annotated[str, Field(pattern=r"^[a-z]{1,8}$")]  # in the names of arrays; "regression" is another's


class MachineRecord(_Record):
    """The numbers of a support vector machine that are no arrays.

    Attributes:
        inputs: the inputs of the model that it takes, in order.
        sizes: columns of each.
        kernel: how clips are compared: by the columns of all inputs side by side, or by the mean over inputs.
        widths: gamma of each block of columns, of which only `mean-rbf` has several.
        vectors: support vectors of each class.
        classes: the class numbers that it knows, in order.
        probabilities: how they come from the decisions between each two classes, as in the options of `svm`.
    """

    inputs: Annotated[list[Name], Field(min_length=1, max_length=8)]
    sizes: Annotated[list[Count], Field(min_length=1, max_length=8)]
    kernel: Literal["rbf", "linear", "poly", "sigmoid", "mean-rbf"]
    widths: Annotated[list[Annotated[float, Field(ge=0)]], Field(min_length=1, max_length=8)]
    vectors: Annotated[list[Annotated[int, Field(ge=0, le=_MOST)]], Field(min_length=2, max_length=1000)]
    classes: Annotated[list[Annotated[int, Field(ge=0, le=1000)]], Field(min_length=2, max_length=1000)]
    probabilities: Literal["pairwise", "one-vs-rest"]

    @property
    def pairs(self) -> int:
        """Pairs of classes."""
        return len(self.classes) * (len(self.classes) - 1) // 2

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Name and shape of each array."""
        known, columns, pairs = len(self.classes), sum(self.sizes), self.pairs
        scores = known if known > 2 else 1
        slopes, offsets = ((scores,), (scores,)) if self.probabilities == "one-vs-rest" else ((known, pairs), (known,))
        return {
            "mean": (columns,),
            "scale": (columns,),
            "vectors": (sum(self.vectors), columns),
            "coefficients": (known - 1, sum(self.vectors)),
            "intercepts": (pairs,),
            "slopes": slopes,
            "offsets": offsets,
        }


class ModelRecord(_Record):
    """What a model is made of.

    Attributes:
        kind: one machine, or machines joined by the geometric mean, or by a regression.
        classes: number of classes.
        machines: by name.
        weights: of the geometric mean; `None`: all alike.
        known: the classes of which the regression has seen a clip.
    """

    kind: Literal["machine", "late", "stacked"]
    classes: Annotated[int, Field(ge=2, le=1000)]
    machines: Annotated[dict[Name, MachineRecord], Field(min_length=1, max_length=8)]
    weights: Annotated[list[Annotated[float, Field(gt=0)]], Field(max_length=8)] | None = None
    known: Annotated[list[Annotated[int, Field(ge=0, le=1000)]], Field(max_length=1000)] | None = None

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Name and shape of each array."""
        found = {
            f"{name}.{array}": shape for name, one in self.machines.items() for array, shape in one.shapes().items()
        }
        if self.kind == "stacked":
            rows = len(self.known or ())
            found |= {
                "regression.coefficients": (rows, len(self.machines) * self.classes),
                "regression.intercepts": (rows,),
            }
        return found

    def problems(self) -> Iterator[str]:
        """What does not go together, or would not give an answer."""
        sizes: dict[str, int] = {}
        for name, one in self.machines.items():
            blocks = len(one.inputs) if one.kernel == "mean-rbf" else 1
            if len(one.sizes) != len(one.inputs) or len(one.widths) != blocks:
                yield f"{name}: {len(one.inputs)} inputs, {len(one.sizes)} sizes and {len(one.widths)} widths"
                continue
            if len(set(one.inputs)) < len(one.inputs):
                yield f"{name}: an input stands there more than once: {', '.join(one.inputs)}"
            for side, size in zip(one.inputs, one.sizes, strict=True):
                if sizes.setdefault(side, size) != size:
                    yield f"input {side} has {sizes[side]} columns, and {size} in {name}"
            if len(one.vectors) != len(one.classes):
                yield f"{name}: support vectors of {len(one.vectors)} classes, expected {len(one.classes)}"
            if sum(one.vectors) == 0:
                yield f"{name}: no support vectors"
            if not _rising(one.classes, self.classes):
                yield f"{name}: classes {one.classes[:5]}"
        if (pairs := sum(one.pairs for one in self.machines.values())) > MAX_PAIRS:
            yield f"{pairs} pairs of classes, at most {MAX_PAIRS} in all machines together"
        if self.kind == "machine" and len(self.machines) > 1:
            yield f"{len(self.machines)} machines, expected one"
        if self.weights is not None and len(self.weights) != len(self.machines):
            yield f"{len(self.weights)} weights of {len(self.machines)} machines"
        if self.weights is not None and not sound_weights(self.weights):
            yield "weights so far apart that the smallest counts as nothing"
        if (self.kind == "stacked") != (self.known is not None):
            yield "the classes of a regression, which only 'stacked' has"
        if self.known is not None and not _rising(self.known, self.classes):
            yield f"the classes of the regression: {self.known[:5]}"


def _rising(numbers: Sequence[int], classes: int) -> bool:
    return list(numbers) == sorted(set(numbers)) and len(numbers) > 0 and numbers[-1] < classes


@dataclass(frozen=True)
class PlainModel:
    """A model as plain numbers.

    Attributes:
        record: those that are no arrays.
        arrays: float64, by the names that `record.shapes` tells.
    """

    record: ModelRecord
    arrays: Mapping[str, np.ndarray]

    @property
    def inputs(self) -> dict[str, int]:
        """The inputs that it takes, with the length of their vectors."""
        return {
            name: size
            for one in self.record.machines.values()
            for name, size in zip(one.inputs, one.sizes, strict=True)
        }

    def answers(self, arrays: Mapping[str, np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
        """What the model says of each clip.

        A single machine has labels of its own, as `cv` counts them: the class that wins most pairs, of several the
        first. They are not always the most probable class. The label of machines joined is the most probable class.

        Args:
            arrays: embeddings `(N, D)` of each input.

        Returns:
            Class probabilities `(N, classes)`, float64, rows summing to 1; and labels `(N,)`, class numbers. NaN and
            -1 where the numbers run out of range.
        """
        with np.errstate(all="ignore"):
            said = {name: self._machine(name, arrays) for name in self.record.machines}
            opinions = {name: one[0] for name, one in said.items()}
            if self.record.kind == "machine":
                found, labels = next(iter(said.values()))
            else:
                found = self._joined(opinions)
                labels = found.argmax(axis=1)
            lost = ~np.isfinite(found).all(axis=1)
        return np.where(lost[:, None], np.nan, found), np.where(lost, -1, labels)

    def probabilities(self, arrays: Mapping[str, np.ndarray]) -> np.ndarray:
        """Class probabilities `(N, classes)`, see `answers`."""
        return self.answers(arrays)[0]

    def labels(self, arrays: Mapping[str, np.ndarray]) -> np.ndarray:
        """Class numbers `(N,)`, see `answers`."""
        return self.answers(arrays)[1]

    def _joined(self, opinions: Mapping[str, np.ndarray]) -> np.ndarray:
        if self.record.kind == "late":
            return geometric_mean(list(opinions.values()), self.record.weights)
        known = self.record.known or []
        coefficients = np.zeros((self.record.classes, len(opinions) * self.record.classes))
        intercepts = np.full(self.record.classes, -np.inf)
        coefficients[known] = self.arrays["regression.coefficients"]
        intercepts[known] = self.arrays["regression.intercepts"]
        return regression.probabilities(log_features(opinions), coefficients, intercepts)

    def _machine(self, name: str, arrays: Mapping[str, np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
        one = self.record.machines[name]
        own = {array: self.arrays[f"{name}.{array}"] for array in one.shapes()}
        columns = np.concatenate([np.asarray(arrays[side], dtype="float32") for side in one.inputs], axis=1)
        # In single precision, as the scaler of the fitted model computes on embeddings.
        columns = (columns - own["mean"].astype("float32")) / own["scale"].astype("float32")
        within = np.isfinite(columns).all(axis=1)
        columns = np.where(within[:, None], columns, 0)  # what scikit-learn takes; the answer is lost below
        found, labels = np.zeros((len(columns), self.record.classes)), np.zeros(len(columns), dtype="int64")
        step = max(1, min(_ROWS, _VALUES // max(sum(one.vectors), one.pairs)))
        for start in range(0, len(columns), step):
            rows = slice(start, start + step)
            decisions = _decisions(one, own, columns[rows].astype("float64"))
            within[rows] &= np.isfinite(decisions).all(axis=1)
            found[rows, one.classes] = _calibrated(one, own, decisions)
            labels[rows] = np.asarray(one.classes)[_winners(decisions, len(one.classes))]
        found[~within] = np.nan
        return found, labels


def _pairs_of(number: int) -> Iterator[tuple[slice, np.ndarray]]:
    """For each class, where its pairs stand in the order (0, 1), (0, 2) ... (1, 2) ...: those in which it is the first,
    and those in which it is the second."""
    starts = np.cumsum([0, *range(number - 1, 0, -1)])  # of the pairs (c, c + 1), (c, c + 2) ...
    for c in range(number):
        yield slice(starts[c], starts[c] + number - 1 - c), starts[:c] + (c - 1 - np.arange(c))


def _decisions(one: MachineRecord, own: Mapping[str, np.ndarray], columns: np.ndarray) -> np.ndarray:
    """The decision between each two classes `(N, pairs)`; above 0 for the first of them, but of two for the second.

    Chang and Lin, "LIBSVM: a library for support vector machines", ACM TIST 2, 2011, section 7.
    """
    kernel = _kernel(one, columns, own["vectors"])
    coefficients, intercepts, number = own["coefficients"], own["intercepts"], len(one.classes)
    if number == 2:
        return kernel @ coefficients.T + intercepts
    ends = np.cumsum(one.vectors)
    found = np.tile(intercepts, (len(columns), 1))
    for c, (first, second) in enumerate(_pairs_of(number)):
        if one.vectors[c]:
            rows = slice(ends[c] - one.vectors[c], ends[c])
            against = kernel[:, rows] @ coefficients[:, rows].T  # the other classes in their order
            found[:, first] += against[:, c:]
            found[:, second] += against[:, :c]
    return found


def _winners(decisions: np.ndarray, number: int) -> np.ndarray:
    """Places `(N,)` of the classes that win most pairs, of several the first; of a tied pair the second."""
    if number == 2:
        return (decisions[:, 0] >= 0).astype("int64")
    won = decisions > 0
    votes = [won[:, first].sum(axis=1) + (~won[:, second]).sum(axis=1) for first, second in _pairs_of(number)]
    return np.argmax(votes, axis=0)


def _scores(decisions: np.ndarray, number: int) -> np.ndarray:
    """A score for each class against the rest `(N, classes)`: won pairs, and how clearly; `(N, 1)` for two classes."""
    if number == 2:
        return decisions
    votes, sums = np.zeros((len(decisions), number)), np.zeros((len(decisions), number))
    won = decisions >= 0
    for c, (first, second) in enumerate(_pairs_of(number)):
        sums[:, c] = decisions[:, first].sum(axis=1) - decisions[:, second].sum(axis=1)
        votes[:, c] = won[:, first].sum(axis=1) + (~won[:, second]).sum(axis=1)
    return votes + sums / (3 * (np.abs(sums) + 1))


def _kernel(one: MachineRecord, columns: np.ndarray, vectors: np.ndarray) -> np.ndarray:
    """How much each clip resembles each support vector: `(N, S)`."""
    if one.kernel in ("rbf", "mean-rbf"):
        blocks = MeanKernel(tuple(one.sizes) if one.kernel == "mean-rbf" else (sum(one.sizes),)).blocks
        return mean_rbf(blocks(columns), blocks(vectors), one.widths)
    products = columns @ vectors.T
    if one.kernel == "linear":
        return products
    scaled = one.widths[0] * products + _CONSTANT
    return np.tanh(scaled) if one.kernel == "sigmoid" else scaled**_DEGREE


def _calibrated(one: MachineRecord, own: Mapping[str, np.ndarray], decisions: np.ndarray) -> np.ndarray:
    """Probabilities `(N, classes)` from decisions."""
    from scipy.special import expit

    if one.probabilities == "pairwise":
        return regression.probabilities(decisions, own["slopes"], own["offsets"])
    # As scikit-learn's `CalibratedClassifierCV` has Platt's.
    each = expit(-(own["slopes"] * _scores(decisions, len(one.classes)) + own["offsets"]))
    if len(one.classes) == 2:
        return np.concatenate([1 - each, each], axis=1)
    total = each.sum(axis=1, keepdims=True)
    return np.where(total != 0, each / np.where(total != 0, total, 1), 1 / len(one.classes))


# -- from a fitted model -------------------------------------------------------------------------------------


def plain(fitted: Expert, classes: int, inputs: Mapping[str, int]) -> PlainModel:
    """The numbers of a fitted model.

    Args:
        fitted: what `serfuse.experiment.fitting.fit` gave.
        classes: number of classes.
        inputs: the length of the vectors of each input.

    Raises:
        RunError: it is made of something else than support vector machines of serfuse's own.
    """
    arrays: dict[str, np.ndarray] = {}
    machines = {}
    parts = fitted.heads if isinstance(fitted, Experts) else {"all": fitted}
    for name, part in parts.items():
        own = {name: inputs[name]} if isinstance(fitted, Experts) else inputs
        machines[name], found = _taken_apart(part, own)
        arrays |= {f"{name}.{key}": np.ascontiguousarray(value, dtype="float64") for key, value in found.items()}
    kind, weights, known = "machine", None, None
    if isinstance(fitted, Late):
        kind, weights = "late", None if fitted.weights is None else list(fitted.weights)
    elif isinstance(fitted, Stacked):
        kind, known = "stacked", np.flatnonzero(np.isfinite(fitted.intercepts)).tolist()
        arrays |= {
            "regression.coefficients": fitted.coefficients[known],
            "regression.intercepts": fitted.intercepts[known],
        }
    elif isinstance(fitted, Experts):
        raise _no_format(fitted)
    record = ModelRecord(kind=kind, classes=classes, machines=machines, weights=weights, known=known)
    made = PlainModel(record, arrays)
    if wrong := next(record.problems(), None) or next(_beyond(made), None):
        raise RunError(f"This model has no file format that could be read again: {wrong}.")
    return made


def _beyond(model: PlainModel) -> Iterator[str]:
    """Arrays that hold what no model computes with."""
    for name, values in model.arrays.items():
        if not np.isfinite(values).all():
            yield f"{name} holds numbers that are not finite"
        # Embeddings are scaled in single precision.
        elif name.endswith((".mean", ".scale", ".vectors")) and max(values.max(), -values.min()) > _WIDEST:
            yield f"{name} holds numbers beyond the range of single precision"
        elif name.endswith(".scale") and (values.astype("float32") == 0).any():
            yield f"{name}: an input is divided by zero"


def _no_format(part: object) -> RunError:
    return RunError(
        f"A model of {type(part).__name__} has no file format that is safe to load from anybody. Kept are networks, "
        "'svm', 'kernel', and 'late' and 'stacked' with 'svm' as their head."
    )


def _taken_apart(part: Expert, inputs: Mapping[str, int]) -> tuple[MachineRecord, dict[str, np.ndarray]]:
    from sklearn.preprocessing import StandardScaler
    from sklearn.svm import SVC

    calibrated = getattr(part, "calibrated", None)
    pairwise = isinstance(calibrated, PairwiseCalibration)
    if calibrated is None or not (pairwise or len(calibrated.calibrated_classifiers_) == 1):
        raise _no_format(part)
    chosen = calibrated if pairwise else calibrated.calibrated_classifiers_[0]
    steps = [step for _, step in getattr(chosen.estimator, "steps", [])]
    if not steps or type(steps[-1]) is not SVC or [type(step) for step in steps[:-1]] not in ([], [StandardScaler]):
        raise _no_format(chosen.estimator)
    svc, columns = steps[-1], sum(inputs.values())
    if isinstance(svc.kernel, MeanKernel):
        training = svc._BaseLibSVM__Xfit
        kernel, widths, vectors = "mean-rbf", svc.kernel.widths(training), training[svc.support_]
    elif svc.kernel in ("rbf", "linear", "poly", "sigmoid") and (svc.degree, svc.coef0) == (_DEGREE, _CONSTANT):
        kernel, widths, vectors = svc.kernel, [float(svc._gamma)], svc.support_vectors_
    else:
        raise _no_format(svc)
    record = MachineRecord(
        inputs=list(inputs),
        sizes=list(inputs.values()),
        kernel=kernel,
        widths=widths,
        vectors=svc.n_support_.tolist(),
        classes=[int(number) for number in svc.classes_],
        probabilities="pairwise" if pairwise else "one-vs-rest",
    )
    scaler = steps[0] if len(steps) > 1 else None
    return record, {
        "mean": np.zeros(columns) if scaler is None else scaler.mean_,
        "scale": np.ones(columns) if scaler is None else scaler.scale_,
        "vectors": vectors,
        "coefficients": svc.dual_coef_,
        "intercepts": svc.intercept_,
        "slopes": chosen.coefficients if pairwise else np.array([one.a_ for one in chosen.calibrators]),
        "offsets": chosen.intercepts if pairwise else np.array([one.b_ for one in chosen.calibrators]),
    }


# -- as a file -----------------------------------------------------------------------------------------------


def write(model: PlainModel) -> bytes:
    """The bytes of a file."""
    header: dict[str, Any] = {"__metadata__": {"model": model.record.model_dump_json()}}
    place, chunks = 0, []
    for name, shape in model.record.shapes().items():
        data = np.ascontiguousarray(model.arrays[name], dtype="<f8").reshape(shape).tobytes()
        header[name] = {"dtype": "F64", "shape": list(shape), "data_offsets": [place, place + len(data)]}
        place += len(data)
        chunks.append(data)
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    return struct.pack("<Q", len(text)) + text + b"".join(chunks)


def read(path: Path, shown: Path | str | None = None) -> PlainModel:
    """A file that may come from anybody, checked: sizes before anything is read, and that all numbers are in range.

    Args:
        path: the file.
        shown: what messages call it.

    Raises:
        ModelFileError: it is no such file, or holds something else than it says.
    """
    where = shown or path
    with path.open("rb") as file:
        size = path.stat().st_size
        start = file.read(8)
        length = struct.unpack("<Q", start)[0] if len(start) == 8 else 0
        if not 2 <= length <= min(MAX_HEADER_BYTES, size - 8) or size > MAX_BYTES:
            raise ModelFileError(f"{where}: its model has {size} bytes and a header of {length}, which no model has.")
        record = _record(file.read(length), size - 8 - length, where)
        arrays = {}
        for name, shape in record.shapes().items():
            count = int(np.prod(shape))
            values = np.frombuffer(file.read(8 * count), dtype="<f8").reshape(shape)
            arrays[name] = values
    model = PlainModel(record, arrays)
    if wrong := next(_beyond(model), None):
        raise ModelFileError(f"{where}: {wrong}.")
    return model


def _record(text: bytes, left: int, where: Path | str) -> ModelRecord:
    """The record in a header, once all that it says of the arrays is what the record needs, and fills the file."""
    try:
        header = json.loads(text)
        told = header.pop("__metadata__")["model"]
        if not told.isascii() or "\\" in told:  # of which the messages below would be made
            raise ValueError("a name holds characters that no name of a model has")
        record = ModelRecord.model_validate_json(told)
    except ValidationError as error:
        raise ModelFileError(
            "\n".join(shown_line(line, 300) for line in explain(error, f"the model of {where}").splitlines())
        ) from None
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise ModelFileError(
            f"{where}: the header of its model cannot be read ({shown_line(str(error), 200)})."
        ) from None
    if problems := list(record.problems()):
        raise ModelFileError(f"{where}: its model does not fit together: {problems[0][:300]}.")
    place, expected = 0, {}
    for name, shape in record.shapes().items():
        count = 1
        for one in shape:  # Python's integers: a product that numpy would let overflow
            count *= one
        expected[name] = {"dtype": "F64", "shape": list(shape), "data_offsets": [place, place + 8 * count]}
        place += 8 * count
    if place != left or header != expected:
        raise ModelFileError(
            f"{where}: the arrays of its model are not those that it needs ({place} bytes, {left} there)."
        )
    return record


def fits(model: PlainModel, sizes: Mapping[str, int], classes: int) -> bool:
    """Whether a model takes inputs of these sizes, and gives so many classes."""
    return model.inputs == dict(sizes) and model.record.classes == classes
