"""One replica of the committee theory: draw samples, solve all rows, read off the curves (THEORY section 8)."""

from __future__ import annotations

import dataclasses
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from scipy.special import ndtr

from dmft.checks import precision_context
from dmft.committee.implicit import initial_fields
from dmft.committee.network import Network, smoothed
from dmft.committee.response import Answers, no_answers, respond_explicit, respond_implicit, some_samples
from dmft.committee.sampling import Samples, draw_presence, draw_samples
from dmft.committee.state import Couplings, Start, State, empty_state
from dmft.compiled.executables import ONCE, compilable, executable
from dmft.losses.new_inputs import correctness
from dmft.models import labels
from dmft.models.committee import Committee
from dmft.twotime.engine import Iteration
from dmft.twotime.grid import Grid
from dmft.twotime.steps import multistep

#: Step of the differences that differentiate a teacher.
TEACHER_STEP = 1e-5


@dataclasses.dataclass(frozen=True)
class Sampling:
    """How one replica is sampled.

    Attributes:
        samples: S, a power of two.
        modes: L, noise modes.
        kink_width: w, over which kinks of the activation are smoothed; those of the loss over as many units of the
            label as w is standard deviations of the initial fields. None where none are smoothed: there are none, or
            they are solved as they are, by steps.
        precision: "float64" or "float32".
    """

    samples: int
    modes: int
    kink_width: float | None
    precision: str


class Responses(NamedTuple):
    """What the tangents of some samples tell; NumPy float64."""

    response: np.ndarray  # (T, N, T, N)
    stein: np.ndarray  # (T, N, K) E[dg_i/du + g_i d log P(y|u)/du] - E[g_i u]


class Solution(NamedTuple):
    """Order parameters of one replica on its grid, and the sums over samples that check them; NumPy float64."""

    readout: np.ndarray  # (T, N)
    target_overlap: np.ndarray  # (T, N, K)
    noise: np.ndarray  # (T, N L), rows (t, i): C - m m^T = noise noise^T
    train_loss: np.ndarray  # (T,)
    train_accuracy: np.ndarray  # (T,), and the mean margin y f, both of labels that are signs
    margin: np.ndarray  # (T,)
    factor: np.ndarray  # (T, N L), rows (t, i): Gamma = E[g_i(t) g_j(t')] = factor factor^T
    few: State  # of some samples: what `responses_of` finds the responses from
    rounds: np.ndarray  # (T,)
    mismatch: np.ndarray  # (T,)

    @property
    def correlation(self) -> np.ndarray:
        """C_ij(t, t'), (T, N, T, N)."""
        t, n, _ = self.target_overlap.shape
        m, noise = self.target_overlap.reshape(t * n, -1), self.noise.reshape(t * n, -1)
        return (m @ m.T + noise @ noise.T).reshape(t, n, t, n)


def field_size(model: Committee) -> float:
    """The largest standard deviation of the initial fields; 1 if they are 0."""
    return float(np.sqrt(np.max(np.diagonal(model.initial_overlaps.neurons)))) or 1.0


def couplings(model: Committee, sampling: Sampling) -> Couplings:
    """The model's numbers."""
    width = sampling.kink_width
    widths = (None, None) if width is None else (width, width / field_size(model))
    numbers = (model.alpha, model.kappa, model.weight_decay, *widths, model.epsilon or 0.0)
    return Couplings(*(None if x is None else np.asarray(x, sampling.precision) for x in numbers))  # type: ignore[arg-type]


def network(model: Committee) -> Network:
    """What of the model is compiled in."""
    return Network(model.phi.at(0.0), model.criterion, model.centered, model.train_readout)


def state_shapes(model: Committee, sampling: Sampling, rows: int, capacity: int) -> State:
    """The arrays of a state with room for `capacity` rows, as shapes; presence is known for `rows` from the start."""
    dtype, width, directions = jnp.dtype(sampling.precision), model.width, model.teacher_dim

    def array(*shape: int) -> Any:
        return jax.ShapeDtypeStruct(shape, dtype)

    s = sampling.samples
    samples = Samples(array(s), array(directions, s), array(s), array(sampling.modes, s))
    along = array(s, directions)
    start = Start(array(s), along, along, array(s), array(s, width), along)
    return jax.eval_shape(lambda a, b, c: empty_state(a, b, c, width, capacity), samples, array(rows, s), start)


def start_state(
    model: Committee, grid: Grid, sampling: Sampling, seed: np.random.SeedSequence, rows: int, capacity: int
) -> State:
    """The state at t = 0: initial overlaps, labels, presence at `rows` rows, and f(0) if centred."""
    c = couplings(model, sampling)
    dtype, width = c.alpha.dtype, model.width
    sobol, flags, weights = seed.spawn(3)
    samples = draw_samples(sampling.samples, model.teacher_dim, sampling.modes, sobol, dtype)
    m, neurons = initial_overlaps(model, weights)
    noise = np.zeros((width, sampling.modes))
    noise[:, :width] = matrix_root(neurons - m @ m.T)
    switch = None if model.persistence is None else float(grid.weights[0]) / model.persistence
    presence = draw_presence(sampling.samples, rows, model.batch_fraction, switch, flags)
    u = np.asarray(samples.u, np.float64)
    arrays = (presence, *training_labels(model, u, np.asarray(samples.label, np.float64)), m, model.readouts, noise)
    return first_state(
        c,
        samples,
        *(np.asarray(array, dtype) for array in arrays),
        network=network(model),
        capacity=capacity,
        flow=not grid.explicit,
    )


@compilable(options=ONCE)
def first_state(
    c: Couplings,
    samples: Samples,
    presence: Array,
    label: Array,
    label_slope: Array,
    score: Array,
    m: Array,
    readout: Array,
    noise: Array,
    *,
    network: Network,
    capacity: int,
    flow: bool,
) -> State:
    """The state at t = 0 of these overlaps and labels, with the fields of row 0 of the flow."""
    width = readout.shape[0]
    value, slope, _ = smoothed(network.activation.at(c.epsilon), m @ samples.u + noise @ samples.modes, c.kink_width)
    scale = c.alpha / width * float(network.centered)
    output_slope = scale * readout[:, None] * slope
    start = Start(label, label_slope, score, scale * (readout @ value), output_slope.T, output_slope.T @ m)
    state = empty_state(samples, presence, start, width, capacity)
    kernels = state.kernels
    kernels = kernels._replace(
        instant=kernels.instant.at[0].set(float(flow) * jnp.eye(width)),
        target_overlap=kernels.target_overlap.at[0].set(m),
        readout=kernels.readout.at[0].set(readout),
        noise=kernels.noise.at[0].set(noise),
    )
    state = state._replace(kernels=kernels)
    return initial_fields(c, network, state) if flow else state


def training_labels(model: Committee, u: np.ndarray, noise: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """y, (S,), dy/du and d log P(y | u)/du, (S, K), at u (K, S); `noise` are standard normals, (S,).

    A label that is drawn does not move with u at a fixed draw; its probability does. Nothing but the check of
    `Solution.stein` asks for either: the overlaps follow from E[g u].
    """
    psi, slopes = model.psi.values(u.T), teacher_slopes(model, u)
    if not model.classifies:
        return psi + model.label_noise * noise, slopes, np.zeros_like(slopes)
    label = labels.draw(model.labels, model.label_flips, psi, ndtr(noise))
    score = labels.score(model.labels, model.label_flips, psi, label)
    return label, np.zeros_like(slopes), score[:, None] * slopes


def teacher_slopes(model: Committee, u: np.ndarray) -> np.ndarray:
    """dpsi/du at u (K, S), by central differences: a teacher may be written in NumPy. Shape (S, K)."""
    steps = TEACHER_STEP * np.eye(len(u))
    ends = [model.psi.values(u.T + step) - model.psi.values(u.T - step) for step in steps]
    return np.stack(ends, axis=-1) / (2 * TEACHER_STEP)


def initial_overlaps(model: Committee, seed: np.random.SeedSequence) -> tuple[np.ndarray, np.ndarray]:
    """m(0) and C(0): as planted, or of random weights, drawn if the model's dim is set."""
    if model.planted or model.dim is None:
        return model.initial_overlaps
    weights = np.random.default_rng(seed).standard_normal((model.width, model.dim))
    return weights[:, : model.teacher_dim] / model.dim**0.5, weights @ weights.T / model.dim


def matrix_root(matrix: np.ndarray) -> np.ndarray:
    """The symmetric square root of a positive semi-definite matrix; eigenvalues below 0 by rounding count as 0."""
    values, vectors = np.linalg.eigh(0.5 * (matrix + matrix.T))
    return (vectors * np.sqrt(np.maximum(values, 0.0))) @ vectors.T


def read_state(state: State, grid: Grid, model: Committee, kept: int) -> Solution:
    """Order parameters and sample sums of a solved state.

    Args:
        kept: samples that are kept for `responses_of`.
    """
    size = grid.size
    kernels = jax.tree.map(lambda array: np.asarray(array, np.float64)[:size], state.kernels)
    weight = np.asarray(state.samples.weight, np.float64)
    h = np.asarray(state.fields.h, np.float64)[:size]
    residual = np.asarray(state.fields.residual, np.float64)[:size]
    label = np.asarray(state.start.label, np.float64)
    with precision_context("float64"):
        losses = np.asarray(model.criterion.reported(residual, label))
        correct = correctness(outputs(model, kernels.readout, h) - label, label, state.samples.weight.dtype)
    t, n, _ = h.shape
    return Solution(
        readout=kernels.readout,
        target_overlap=kernels.target_overlap,
        noise=kernels.noise.reshape(t * n, -1),
        train_loss=losses @ weight,
        train_accuracy=np.asarray(correct) @ weight,
        margin=(label * (residual + label)) @ weight,
        factor=np.array(state.factor, np.float64)[:size].reshape(t * n, -1),
        rounds=np.asarray(state.rounds)[:size],
        mismatch=np.asarray(state.mismatch, np.float64)[:size],
        few=some_samples(state, kept),
    )


def responses_of(
    model: Committee, grid: Grid, solution: Solution, kink_width: float, iteration: Iteration
) -> Responses:
    """Responses of a solved replica.

    Args:
        kink_width: as in `Sampling`, also for steps.
        iteration: of the flow's rows.
    """
    capacity, precision = len(solution.few.mismatch), str(solution.few.samples.weight.dtype)
    c = couplings(model, Sampling(0, 0, kink_width, precision))
    steps = multistep(grid, capacity, np.dtype(precision))
    function, static = (respond_explicit, {}) if grid.explicit else (respond_implicit, {"iteration": iteration})
    with precision_context(precision):
        state = jax.tree.map(jnp.asarray, solution.few)
        first, stop = np.int32(not grid.explicit), np.int32(grid.size)
        arguments = (c, steps, state, no_answers(state), first, stop)
        answers = executable(function, arguments, {"network": network(model), **static})(*arguments)
    return read_answers(state, answers, grid)


def read_answers(state: State, answers: Answers, grid: Grid) -> Responses:
    """Responses, and Stein's identity in u."""
    size, shift = grid.size, int(grid.explicit)  # the slot of row n
    force, tangent = (np.asarray(array, np.float64) for array in (answers.force, answers.target_tangent))
    arrays = (state.samples.weight, state.start.score, state.samples.u.T)
    weight, score, u = (np.asarray(array, np.float64) for array in arrays)
    stein = np.zeros((size, *tangent.shape[1::2]))
    mean = tangent[shift:size] + force[shift:size, ..., None] * (score - u)
    stein[: size - shift] = np.einsum("s,tisk->tik", weight / weight.sum(), mean)
    return Responses(np.asarray(answers.response, np.float64)[:size, :, :size], stein)


def outputs(model: Committee, readout: np.ndarray, h: np.ndarray) -> np.ndarray:
    """f, or f - f(0) if centred, (T, S), with kinks as they are: of dead neurons it is 0, and has no sign."""
    f = np.einsum("ti,tis->ts", model.alpha / model.width * readout, np.asarray(model.phi.value(h)))
    return f - f[0] if model.centered else f
