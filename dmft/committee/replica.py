"""One replica of the committee theory: draw samples, solve all rows, read off the curves (THEORY section 8)."""

from __future__ import annotations

import dataclasses
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from dmft.committee.explicit import advance_explicit
from dmft.committee.implicit import advance_implicit, initial_fields
from dmft.committee.network import Network, smoothed
from dmft.committee.rows import tangent_weight
from dmft.committee.sampling import Samples, draw_presence, draw_samples
from dmft.committee.state import Couplings, Start, State, empty_state, grow_state, state_bytes
from dmft.models.committee import Committee
from dmft.twotime.grid import Grid
from dmft.wide.advance import Iteration
from dmft.wide.state import Steps

#: Row capacities: the work on rows of one capacity is compiled once. A replica starts in a small one and grows.
CAPACITIES = (8, 16, 32, 48, 64, 96, 128, 192, 256, 384, 512, 768, 1024)
#: Neurons times rows up to which compiling costs more than rows left empty: one capacity, a power of two.
SMALL = 128
#: Step of the differences that differentiate a teacher.
TEACHER_STEP = 1e-5


@dataclasses.dataclass(frozen=True)
class Sampling:
    """How one replica is sampled.

    Attributes:
        samples: S, a power of two.
        tangent_samples: Q <= S, a power of two: the first samples, whose tangents give the responses.
        modes: L, noise modes.
        kink_width: w, over which kinks of the activation are smoothed.
        precision: "float64" or "float32".
    """

    samples: int
    tangent_samples: int
    modes: int
    kink_width: float
    precision: str


class Stopped(NamedTuple):
    """A replica that could not go on: the first row that failed, and why."""

    row: int
    reason: str


class Solution(NamedTuple):
    """Order parameters of one replica on its grid, and the sums over samples that check them; NumPy float64."""

    readout: np.ndarray  # (T, N)
    target_overlap: np.ndarray  # (T, N, K)
    noise: np.ndarray  # (T, N L), rows (t, i): C - m m^T = noise noise^T
    response: np.ndarray  # (T, N, T, N)
    train_loss: np.ndarray  # (T,)
    force_force: np.ndarray  # (T, N, T, N) Gamma = E[g_i(t) g_j(t')]
    stein: np.ndarray  # (T, N, K) E[dg_i/du] - E[g_i u], over the samples with tangents
    rounds: np.ndarray  # (T,)
    mismatch: np.ndarray  # (T,)

    @property
    def correlation(self) -> np.ndarray:
        """C_ij(t, t'), (T, N, T, N)."""
        t, n, _ = self.target_overlap.shape
        m, noise = self.target_overlap.reshape(t * n, -1), self.noise.reshape(t * n, -1)
        return (m @ m.T + noise @ noise.T).reshape(t, n, t, n)


def capacity_for(points: int, width: int) -> int:
    """The capacity that a replica of `points` rows and `width` neurons ends in."""
    power = max(CAPACITIES[0], 2 ** (points - 1).bit_length())
    if width * power <= SMALL:
        return power
    return next((capacity for capacity in CAPACITIES if capacity >= points), points)


def capacities_for(points: int, width: int) -> list[int]:
    """The capacities that it passes through."""
    last = capacity_for(points, width)
    doubling = (32 * 2**power for power in range(9))
    return [last] if width * last <= SMALL else [capacity for capacity in doubling if capacity < last] + [last]


def replica_bytes(model: Committee, points: int, sampling: Sampling) -> int:
    """Memory of one replica at its largest, in bytes: the state, and what it was before it grew."""
    itemsize = 8 if sampling.precision == "float64" else 4
    shape = (model.width, model.teacher_dim, sampling.modes)
    samples = (sampling.samples, sampling.tangent_samples)
    return int(1.6 * state_bytes(capacity_for(points, model.width), *samples, *shape, itemsize))


def solve_state(
    model: Committee, grid: Grid, sampling: Sampling, seed: np.random.SeedSequence, iteration: Iteration
) -> State | Stopped:
    """Solve all rows of one replica. Runs inside a precision context."""
    dtype = jnp.dtype(sampling.precision)
    couplings = Couplings(
        *(jnp.asarray(x, dtype) for x in (model.alpha, model.kappa, model.weight_decay, sampling.kink_width))
    )
    network = Network(model.phi, model.centered, model.train_readout)
    state = start_state(model, network, couplings, grid, sampling, seed)
    if not grid.explicit:
        state = initial_fields(couplings, state, network=network)
    row = 0 if grid.explicit else 1
    while row < grid.size:
        capacity = state.rounds.shape[0]
        # an explicit step also writes the next row
        stop = grid.size if capacity >= grid.size else capacity - int(grid.explicit)
        steps = multistep(grid, capacity, dtype)
        arguments = (couplings, steps, state, np.int32(row), np.int32(stop))
        if grid.explicit:
            state = advance_explicit(*arguments, network=network)
        else:
            state = advance_implicit(*arguments, network=network, iteration=iteration)
        stopped = failure(state, row, stop, iteration)
        if stopped is not None:
            return stopped
        row = stop
        if row < grid.size:
            state = grow_state(state, min(last for last in capacities_for(grid.size, model.width) if last > capacity))
    return state


def multistep(grid: Grid, capacity: int, dtype: Any) -> Steps:
    """The grid's multistep weights for `capacity` rows; rows beyond the grid get weight 0."""
    rows = min(capacity, grid.size)
    weights, past = np.zeros(capacity), np.zeros((capacity, grid.past.shape[1]))
    weights[:rows], past[:rows] = grid.weights[:rows], grid.past[:rows]
    return Steps(jnp.asarray(weights, dtype), jnp.asarray(past, dtype))


def failure(state: State, first: int, stop: int, iteration: Iteration) -> Stopped | None:
    """The first row of first <= n < stop that did not converge, is not finite or exploded."""
    loss = np.asarray(state.fields.residual**2 @ state.samples.weight)[:stop]
    for row in range(first, stop):
        if not np.isfinite(loss[row]) or loss[row] > 1e3 * max(loss[0], 1e-300):
            return Stopped(row, "diverged")
        if not state.mismatch[row] <= iteration.accepted:
            return Stopped(row, f"residual {state.mismatch[row]:.1e} after {state.rounds[row]} rounds")
    return None


def start_state(
    model: Committee,
    network: Network,
    couplings: Couplings,
    grid: Grid,
    sampling: Sampling,
    seed: np.random.SeedSequence,
) -> State:
    """The state at t = 0: initial overlaps, labels, presence, and f(0) if centred."""
    dtype, width = couplings.alpha.dtype, model.width
    sobol, flags, weights = seed.spawn(3)
    samples = draw_samples(sampling.samples, model.teacher_dim, sampling.modes, sobol, dtype)
    m, c = initial_overlaps(model, weights)
    factor = matrix_root(c - m @ m.T)
    readout = jnp.asarray(model.readouts, dtype)
    noise = jnp.zeros((width, sampling.modes), dtype).at[:, :width].set(factor)
    m = jnp.asarray(m, dtype)
    start = _start(model, network, couplings, samples, readout, m, noise)
    switch = None if model.persistence is None else float(grid.weights[0]) / model.persistence
    rows = capacity_for(grid.size, model.width)
    presence = jnp.asarray(draw_presence(sampling.samples, rows, model.batch_fraction, switch, flags), dtype)
    state = empty_state(samples, presence, start, width, capacities_for(grid.size, width)[0], sampling.tangent_samples)
    kernels = state.kernels
    kernels = kernels._replace(
        response=kernels.response.at[0, :, 0].set(jnp.eye(width)),
        target_overlap=kernels.target_overlap.at[0].set(m),
        readout=kernels.readout.at[0].set(readout),
        noise=kernels.noise.at[0].set(noise),
    )
    return state._replace(kernels=kernels)


def _start(
    model: Committee,
    network: Network,
    couplings: Couplings,
    samples: Samples,
    readout: Any,
    m: Any,
    noise: Any,
) -> Start:
    u, dtype = np.asarray(samples.u, np.float64), samples.u.dtype
    label = model.psi.values(u.T) + model.label_noise * np.asarray(samples.label, np.float64)
    h = m @ samples.u + noise @ samples.modes
    value, slope, _ = smoothed(network.activation, h, couplings.kink_width)
    scale = couplings.alpha / model.width * float(model.centered)
    output_slope = scale * readout[:, None] * slope
    return Start(
        jnp.asarray(label, dtype),
        jnp.asarray(teacher_slopes(model, u), dtype),
        scale * (readout @ value),
        output_slope.T,
        output_slope.T @ m,
    )


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


def read_state(state: State, grid: Grid) -> Solution:
    """Order parameters and sample sums of a solved state."""
    size = grid.size
    kernels = jax.tree.map(lambda array: np.asarray(array, np.float64)[:size], state.kernels)
    weight = np.asarray(state.samples.weight, np.float64)
    h = np.asarray(state.fields.h, np.float64)[:size]
    residual = np.asarray(state.fields.residual, np.float64)[:size]
    shift = int(grid.explicit)  # the slot of row n
    force = np.zeros_like(h)
    force[: size - shift] = np.asarray(state.history.force, np.float64)[shift:size]
    few = np.asarray(tangent_weight(state), np.float64)
    stein = np.zeros((*h.shape[:2], state.samples.u.shape[0]))
    target_tangent = np.asarray(state.history.target_tangent, np.float64)[shift:size]
    u = np.asarray(state.samples.u, np.float64)[:, : len(few)]
    stein[: size - shift] = np.einsum("s,tisk->tik", few, target_tangent)
    stein -= np.einsum("tis,s,ks->tik", force[..., : len(few)], few, u)
    t, n, _ = h.shape
    force_force = ((force * weight).reshape(t * n, -1) @ force.reshape(t * n, -1).T).reshape(t, n, t, n)
    return Solution(
        readout=kernels.readout,
        target_overlap=kernels.target_overlap,
        noise=kernels.noise.reshape(t * n, -1),
        response=kernels.response[:, :, :size],
        train_loss=residual**2 @ weight,
        force_force=force_force,
        stein=stein,
        rounds=np.asarray(state.rounds)[:size],
        mismatch=np.asarray(state.mismatch, np.float64)[:size],
    )
