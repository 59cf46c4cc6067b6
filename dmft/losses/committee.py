"""Observables of a committee: their names and dimensions, and the square test loss as a function of the overlaps.

Other losses and accuracies: `dmft.losses.new_inputs`.

The preactivations of a new input are jointly Gaussian with u: h_i = w_i.x and u_k = beta_k.x have covariances
C_ij = w_i.w_j / D, m_ik = w_i.beta_k / D and the identity. With amplitudes c_i = alpha a_i / N the test loss

    E[(sum_i c_i phi(h_i) - psi(u))^2] = sum_ij c_i c_j E[phi(h_i) phi(h_j)] - 2 sum_i c_i E[phi(h_i) psi(u)] + E[psi^2]

is a function of the overlaps alone. It holds at finite D, for the weights as they are. A centred network has 2N
neurons: those now, and those at t = 0 with amplitudes -c_i(0). A teacher that is itself a committee counts as K more of
them, so that a student that has become its teacher has test loss zero to rounding.

*Quadrature.* Given one variable v, another Gaussian one has mean mu and standard deviation s, and

    E[phi(mu + s z)] = sum_n weight_n phi_0(mu + s z_n) + sum_kinks jump (x Phi(x/s) + s g(x/s)),  x = mu - place,

with Gauss-Hermite nodes z_n, phi_0 = phi - sum_kinks jump max(0, h - place) free of kinks, and Phi, g the normal
distribution and density. The outer average, over v, takes Gauss-Legendre panels with an edge at v = 0. Polynomials and
ReLU are exact to rounding; erf, tanh and softplus to 1e-6 for C_ii near 1, to 1e-4 for C_ii = 10; functions with kinks
elsewhere than at 0 to about 1e-3. Where psi is a function of one's own, the outer average is over u in R^K, by the
trapezoidal rule for K <= 3 (spacing .03, .12, .5: for K = 3 psi must be smooth on that scale), beyond by 2^15 points
of a scrambled Sobol sequence (to about 1e-3, as where psi has kinks).
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from dmft.models.activations import Activation
from dmft.models.committee import Committee
from dmft.models.teachers import Teacher

#: Every observable: its meaning, as written on axes and in files. All are dimensionless.
OBSERVABLES: dict[str, str] = {
    "train_loss": "mean squared residual on the training set",
    "test_loss": "mean squared error on new inputs, clean labels",
    "teacher_overlap": "w_i.beta_k / D",
    "self_overlap": "w_i.w_j / D",
}
#: With trained readouts, this one too.
READOUTS: dict[str, str] = {"readouts": "readout a_i"}
#: What the losses are called where the loss is another than the square.
MEAN_LOSSES: dict[str, str] = {
    "train_loss": "mean loss on the training set",
    "test_loss": "mean loss on new inputs, clean labels",
}
#: With labels that are signs, these too; f = 0 counts half.
CLASSIFICATION: dict[str, str] = {
    "train_accuracy": "share of the training set where f has the sign of the label",
    "test_accuracy": "share of new inputs where f has the sign of the clean label",
    "margin": "mean of y f on the training set",
}

#: Dimensions of the observables that are arrays, beside those of every observable.
DIMENSIONS: dict[str, tuple[str, ...]] = {
    "teacher_overlap": ("neuron", "direction"),
    "self_overlap": ("neuron", "neuron2"),
    "readouts": ("neuron",),
}

#: Nodes of the inner and of the outer average, in standard deviations.
_INNER, _PANEL_NODES, _PANELS, _REACH = 40, 8, 20, 10.0
#: Points of the grid over u in each of K directions, its reach, and points where a grid would be too large.
_POINTS, _GRID_REACH, _SOBOL = {1: 513, 2: 129, 3: 33}, 8.0, 15


def observables(model: Committee) -> dict[str, str]:
    """Names and meanings of what a committee's dataset holds."""
    losses = {} if model.loss == "square" else MEAN_LOSSES
    signs = CLASSIFICATION if model.classifies else {}
    return OBSERVABLES | losses | (READOUTS if model.train_readout else {}) | signs


class Neurons(NamedTuple):
    """Neurons as the test loss sees them.

    Attributes:
        amplitudes: c_i = alpha a_i / N, (n,).
        teacher: m, (n, K).
        neurons: C, (n, n).
    """

    amplitudes: Any
    teacher: Any
    neurons: Any


def centered(now: Neurons, start: Neurons, cross: Any) -> Neurons:
    """The neurons of f - f(t=0): those now and, with amplitudes reversed, those at t = 0.

    Args:
        now: (n, ...).
        start: the same at t = 0.
        cross: w_i(t).w_j(0) / D, (n, n).
    """
    return Neurons(
        jnp.concatenate([now.amplitudes, -start.amplitudes]),
        jnp.concatenate([now.teacher, start.teacher]),
        jnp.block([[now.neurons, cross], [cross.T, start.neurons]]),
    )


def test_loss(phi: Activation, psi: Teacher) -> Callable[[Neurons], jax.Array]:
    """The function Neurons -> test loss of activation phi and teacher psi; it can be compiled and mapped."""
    return functools.partial(_committee_teacher, phi, psi) if psi.feature else _other_teacher(phi, psi)


test_loss.__test__ = False  # type: ignore[attr-defined]  # not a test function


def _committee_teacher(phi: Activation, psi: Teacher, student: Neurons) -> jax.Array:
    """The teacher as K neurons of amplitude -1/K, with overlaps of their own."""
    assert psi.feature is not None
    c, m, k = student.amplitudes, student.teacher, psi.directions
    teacher = jnp.full(k, -1.0 / k, c.dtype)
    identity = jnp.eye(k, dtype=c.dtype)
    own = _products(phi, phi, jnp.diagonal(student.neurons), jnp.diagonal(student.neurons), student.neurons)
    both = _products(psi.feature, phi, jnp.ones(k, c.dtype), jnp.diagonal(student.neurons), m.T)
    last = _products(psi.feature, psi.feature, jnp.ones(k, c.dtype), jnp.ones(k, c.dtype), identity)
    return jnp.maximum(c @ own @ c + 2.0 * teacher @ both @ c + teacher @ last @ teacher, 0.0)


def _other_teacher(phi: Activation, psi: Teacher) -> Callable[[Neurons], jax.Array]:
    """Any teacher: averages over a grid of u, on which psi is known once and for all."""
    u, weights = _grid(psi.directions)
    y = psi.values(u)
    square = float(weights @ y**2)

    def loss(student: Neurons) -> jax.Array:
        c, m, variance = student.amplitudes, student.teacher, jnp.diagonal(student.neurons)
        own = _products(phi, phi, variance, variance, student.neurons)
        spread = _root(variance - jnp.sum(m**2, axis=1))
        grid, force = jnp.asarray(u, c.dtype), jnp.asarray(weights * y, c.dtype)
        both = jax.lax.map(lambda row: force @ _mean(phi, grid @ row[0], row[1]), (m, spread))
        return jnp.maximum(c @ own @ c - 2.0 * c @ both + square, 0.0)

    return loss


def _products(
    first: Activation, second: Activation, variance: jax.Array, other: jax.Array, covariance: jax.Array
) -> jax.Array:
    """E[first(v_i) second(h_j)], (n, l), for Gaussian v, h of variances (n,), (l,) and covariances (n, l)."""
    nodes, weights = (jnp.asarray(part, variance.dtype) for part in _outer())

    def row(entry: tuple[jax.Array, jax.Array]) -> jax.Array:
        size, shared = entry
        slope = shared / _root(size)  # of h_j in units of v_i's standard deviation
        spread = _root(other - slope**2)
        return _mean(second, nodes[:, None] * slope, spread).T @ (weights * first.value(_root(size) * nodes))

    return jax.lax.map(row, (variance, covariance))


def _mean(phi: Activation, mean: jax.Array, spread: jax.Array) -> jax.Array:
    """E[phi(mean + spread z)] over z ~ N(0, 1), for means and standard deviations that broadcast."""
    nodes, weights = np.polynomial.hermite_e.hermegauss(_INNER)
    z, w = jnp.asarray(nodes, mean.dtype), jnp.asarray(weights / weights.sum(), mean.dtype)
    h = mean[..., None] + jnp.broadcast_to(spread, mean.shape)[..., None] * z
    smooth = phi.value(h)
    for place, jump in phi.kinks:
        smooth = smooth - jump * jnp.maximum(h - place, 0.0)
    value = smooth @ w
    for place, jump in phi.kinks:
        x = mean - place
        ratio = x / spread
        value = value + jump * (x * jax.scipy.stats.norm.cdf(ratio) + spread * jax.scipy.stats.norm.pdf(ratio))
    return value


def _root(value: jax.Array) -> jax.Array:
    """The square root of a variance, kept above rounding so that it can be divided by."""
    return jnp.sqrt(jnp.maximum(value, 1e-14))


def _outer() -> tuple[np.ndarray, np.ndarray]:
    """Nodes and weights of the average over N(0, 1): Gauss-Legendre panels, an edge at 0."""
    nodes, weights = np.polynomial.legendre.leggauss(_PANEL_NODES)
    half = _REACH / _PANELS
    middles = -_REACH + half * (2.0 * np.arange(_PANELS) + 1.0)
    z = (middles[:, None] + half * nodes).ravel()
    w = np.tile(weights, _PANELS) * np.exp(-0.5 * z**2)
    return z, w / w.sum()


def _grid(directions: int) -> tuple[np.ndarray, np.ndarray]:
    """Points u, (Q, K), and weights, (Q,), of the average over N(0, I) in R^K."""
    if directions in _POINTS:
        line = np.linspace(-_GRID_REACH, _GRID_REACH, _POINTS[directions])
        u = np.stack(np.meshgrid(*[line] * directions, indexing="ij"), axis=-1).reshape(-1, directions)
        weights = np.exp(-0.5 * np.sum(u**2, axis=1))
        return u, weights / weights.sum()
    from scipy import special, stats

    points = stats.qmc.Sobol(directions, rng=np.random.default_rng(0)).random_base2(_SOBOL)
    u = special.ndtri(np.clip(points, 1e-12, 1.0 - 1e-12))
    u = (u - u.mean(axis=0)) / u.std(axis=0)
    return u, np.full(len(u), 1.0 / len(u))
