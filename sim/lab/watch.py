"""What is observed of a network in training: measures by name, each a function of a `View`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from dmft.checks import ParameterError
from dmft.models.fingerprint import Known, describe
from sim import measures
from sim.lab.losses import Loss, collapsed, right
from sim.lab.program import Program

#: Training samples of the tangent kernel.
KERNEL_SAMPLES = 64


class View(NamedTuple):
    """A network at an observation.

    Attributes:
        function: (parameters, x) -> outputs alpha (f - f_0).
        program: the network itself.
        parameters: by name.
        start: those at step 0.
        data: `sim.lab.system.Data`.
        z: outputs on the training set, (P, K), without dropout.
        z_test: on the test set.
        gradient: of the loss, by name.
        loss: what is descended.
        tolerance: of values.
        twin: outputs of the linearised network on both sets, or None.
        outputs: K.
    """

    function: Callable[[Any, Any], Any]
    program: Program
    parameters: Any
    start: Any
    data: Any
    z: Any
    z_test: Any
    gradient: Any
    loss: Loss
    tolerance: float | None
    twin: Any
    outputs: int


class Measure(NamedTuple):
    """What is watched.

    Attributes:
        meanings: names of its observables, and their meanings.
        values: view -> value by name.
        sizes: parameters -> dimensions and their sizes, by name of the observables that are arrays.
    """

    meanings: Mapping[str, str]
    values: Callable[[View], dict[str, Any]]
    sizes: Callable[[Mapping[str, Any]], dict[str, dict[str, int]]] = lambda _: {}


def losses(view: View) -> dict[str, Any]:
    """Losses and accuracies, and the norm of the weights."""
    data = view.data
    hit = right(view.z, data.y, view.tolerance)
    return {
        "train_loss": jnp.mean(view.loss.samples(view.z, data.y)),
        "test_loss": jnp.mean(view.loss.samples(view.z_test, data.y_test)),
        "train_accuracy": jnp.mean(hit, dtype=view.z.dtype),
        "test_accuracy": measures.accuracy(view.z_test, data.y_test, view.tolerance),
        "weight_norm": measures.weight_norm(view.parameters),
    }


def corrupted(view: View) -> dict[str, Any]:
    """Accuracies on training samples with right and with wrong labels."""
    hit, wrong = right(view.z, view.data.y, view.tolerance), view.data.corrupted

    def share(among: jax.Array) -> jax.Array:
        return jnp.sum(hit & among, dtype=view.z.dtype) / jnp.maximum(jnp.sum(among), 1)

    return {
        "clean_accuracy": share(~wrong),
        "corrupted_accuracy": share(wrong),
    }


def moved(view: View) -> dict[str, Any]:
    """|theta - theta_0| / |theta_0|."""
    return {"movement": measures.movement(view.parameters, view.start)}


def kernel(view: View) -> dict[str, Any]:
    """Alignment of the tangent kernel with the labels, and its distance from the start."""
    x, y = view.data.x[:KERNEL_SAMPLES], view.data.y[:KERNEL_SAMPLES]
    labels = jax.nn.one_hot(y, view.outputs, dtype=view.z.dtype) if y.ndim == 1 else y
    now, before = (measures.trace_kernel(view.function, at, x, view.outputs) for at in (view.parameters, view.start))
    return {
        "kernel_alignment": measures.alignment(now, labels),
        "kernel_alignment_centered": measures.alignment(now, labels, centred=True),
        "kernel_distance": measures.distance(now, before),
    }


def participation(view: View) -> dict[str, Any]:
    """Inverse participation ratio of every neuron."""
    return {"ipr": measures.neuron_participation(view.parameters)}


def collapse(view: View) -> dict[str, Any]:
    """Collapse of the softmax."""
    return {
        "collapse": jnp.mean(collapsed(view.z, view.loss.softmax)),
        "zero_loss": jnp.mean(view.loss.samples(view.z, view.data.y) == 0.0),
        "logit_gap": measures.logit_gap(view.z),
    }


def radial(view: View) -> dict[str, Any]:
    """cos(-g, theta) of every tensor."""
    return {"descent_cosine": jnp.stack(list(measures.descent_cosine(view.parameters, view.gradient).values()))}


def linearized(view: View) -> dict[str, Any]:
    """The same losses of the linearised network."""
    z, z_test = view.twin
    found = losses(view._replace(z=z, z_test=z_test))
    return {f"linearized_{name}": value for name, value in found.items() if name != "weight_norm"}


LOSSES = Measure(
    {
        "train_loss": "loss on the training set",
        "test_loss": "loss on the test set",
        "train_accuracy": "share of right answers on the training set, by its labels",
        "test_accuracy": "share of right answers on the test set",
        "weight_norm": "|theta|, all parameters",
    },
    losses,
)
CORRUPTED = Measure(
    {
        "clean_accuracy": "share of right answers on training samples with right labels",
        "corrupted_accuracy": "share of training samples with wrong labels that get that label",
    },
    corrupted,
)
SAMPLES = f"the first {KERNEL_SAMPLES} training samples, averaged over outputs"
MEASURES: dict[str, Measure] = {
    "movement": Measure({"movement": "|theta - theta_0| / |theta_0|"}, moved),
    "linearized": Measure(
        {
            f"linearized_{name}": f"{meaning}, of the network linearised at step 0"
            for name, meaning in LOSSES.meanings.items()
            if name != "weight_norm"
        },
        linearized,
    ),
    "kernel": Measure(
        {
            "kernel_alignment": f"<K, Y Y^T> / (|K| |Y Y^T|), tangent kernel K and labels Y, on {SAMPLES}",
            "kernel_alignment_centered": "the same of H K H and H Y, H = 1 - 1 1^T / P",
            "kernel_distance": "|K - K_0| / |K_0|",
        },
        kernel,
    ),
    "ipr": Measure(
        {"ipr": "inverse participation ratio of a neuron's Fourier modes, averaged over its three rows"},
        participation,
        lambda parameters: {"ipr": {"neuron": parameters["readout"].shape[1]}},
    ),
    "collapse": Measure(
        {
            "collapse": "share of training samples with sum_k exp(z_k - max z) == 1 in the softmax's precision",
            "zero_loss": "share of training samples whose loss is exactly 0",
            "logit_gap": "largest minus second largest output, mean over training samples",
        },
        collapse,
    ),
    "descent_cosine": Measure(
        {"descent_cosine": "cos(-gradient, theta) of every tensor"},
        radial,
        lambda parameters: {"descent_cosine": {"tensor": len(parameters)}},
    ),
}


class Own(NamedTuple):
    """A measure of one's own as values by name."""

    name: str
    function: Known

    def __call__(self, view: View) -> dict[str, Any]:
        return {self.name: self.function(view)}


def chosen(names: Any, program: Program, wrong: bool) -> list[Measure]:
    """The measures of a run: losses first.

    Args:
        names: of MEASURES, or functions View -> number.
        program: the network.
        wrong: whether labels are corrupted.

    Raises:
        ParameterError: there is none of a name, or it does not fit the network.
    """
    found = [LOSSES, *([CORRUPTED] if wrong else [])]
    for name in (names,) if isinstance(names, str) or callable(names) else tuple(names):
        if callable(name):
            own = getattr(name, "__name__", "own")
            found.append(Measure({own: describe(name)}, Own(own, Known(name))))
            continue
        if name not in MEASURES:
            raise ParameterError(
                f"Argument `measures` must be of {', '.join(MEASURES)}, or functions of a View, but contains {name!r}."
            )
        if name == "ipr" and not fits_waves(program):
            raise ParameterError("Argument `measures` must not contain ipr unless the network is two_embeddings.")
        if name == "kernel" and program.normalized:
            raise ParameterError("Argument `measures` must not contain kernel with BatchNorm, which couples samples.")
        found.append(MEASURES[name])
    return found


def fits_waves(program: Program) -> bool:
    """Whether the network has neurons with rows U, V and W."""
    return {"left", "right", "readout"} <= set(getattr(program.template, "__dict__", {}))
