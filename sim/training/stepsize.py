"""How fast the training dynamics are: how large a step of gradient descent may be, how dense its curves are."""

from __future__ import annotations

import math

import numpy as np

from dmft.models.model import Model
from sim.systems.draws import Replica, plant
from sim.training.system import System

#: Rate x time between two reported times of gradient flow, where they are dense.
RESOLVED = 0.05
#: The smallest relative error of the losses that can be asked of gradient flow.
FINEST_RTOL = {"float64": 1e-9, "float32": 1e-4}
#: And the largest.
COARSEST_RTOL = 0.1
#: Of the power iteration; its vector need not have converged for the eigenvalue to be good to a few per cent.
ITERATIONS = 100


def curvature(model: Model, replica: Replica, batch_size: int | None = None) -> float:
    """Largest rate of the training dynamics of one replica: steps below 2 / curvature are stable.

    The residuals relax with the tangent kernel K = (1/kappa) (X X^T) o Phi, Phi = (1/N) sum_i phi'(h_i) phi'(h_i)^T.
    At the start lambda_max(K) <= max_mu Phi_mu,mu lambda_max(X X^T) / kappa. At the end, where f is the teacher with
    M = beta beta^T / (alpha epsilon), Phi = 1 1^T + (epsilon/alpha) u u^T. In rich cases the end is the steeper
    one: the trace of M grows to 1 / (alpha epsilon). The larger of the two counts; weight decay adds lambda.

    A batch of B samples stands for all P: its kernel is that of its samples times P / B. The first B samples are taken
    as an example, and their bound is doubled for the batches that are steeper.
    """
    if batch_size is not None:
        part = replica._replace(inputs=replica.inputs[:batch_size], labels=replica.labels[:batch_size])
        bound = curvature(model, part) - model.weight_decay
        return 2.0 * replica.labels.size / batch_size * bound + model.weight_decay
    inputs, u = replica.inputs, replica.inputs @ replica.beta
    if model.width is None:
        planted = plant(model, replica.beta, inputs)  # U(0)^T x
        features = 1.0 + model.epsilon**2 * np.sum(planted**2, axis=1)
    else:
        features = np.zeros(u.size)
        for weights in np.array_split(replica.weights, math.ceil(model.width / 1000)):
            features += np.sum((1.0 + model.epsilon * (inputs @ weights.T)) ** 2, axis=1) / model.width
    one = np.ones((u.size, 1))
    start = features.max() * largest_eigenvalue(inputs, one)
    end = largest_eigenvalue(inputs, np.column_stack([one, math.sqrt(model.epsilon / model.alpha) * u]))
    return max(start, end) / model.kappa + model.weight_decay


def largest_eigenvalue(inputs: np.ndarray, features: np.ndarray) -> float:
    """lambda_max of (X X^T) o (G G^T) by power iteration; X is (P, D), G is (P, n)."""
    vector = np.random.default_rng(0).standard_normal(len(inputs))
    value = 0.0
    for _ in range(ITERATIONS):
        vector /= np.linalg.norm(vector)
        vector = sum(g * (inputs @ ((g * vector) @ inputs)) for g in features.T)
        value = float(np.linalg.norm(vector))
    return value


def initial_rate(system: System, seed: int) -> float:
    """The largest rate of the first replica: the system's own bound, or the spectral radius at the start."""
    if system.curvature is not None:
        return system.curvature(seed, 0, None)
    import jax

    from dmft.checks import precision_context
    from sim.training.flow import make_velocity, shaken, spectral_radius

    with precision_context("float64"):
        state, data = jax.tree.map(jax.numpy.asarray, system.draw(seed, 0))
        data = system.equations.prepare(state, data)
        velocity = make_velocity(system.equations, data, jax.numpy.asarray(system.decay))
        return float(spectral_radius(velocity, state, shaken(velocity(state)))[0])


def expected_evaluations(rate: float, t_max: float, rtol: float) -> int:
    """About how many evaluations gradient flow takes; measured at rtol 1e-3 to 1e-2, rate t_max from 100 to 3 10^4."""
    return round(60.0 + 12.0 * math.sqrt(rate * t_max) * (1e-3 / rtol) ** 0.3)


def output_spacing(rate: float, t_max: float) -> float:
    """A part of t_max between whose multiples linear interpolation errs by 0.03 %: RESOLVED / rate."""
    return t_max / max(1, math.ceil(t_max * rate / RESOLVED)) if math.isfinite(rate) else t_max


def stable_step(curvature: float) -> float:
    """Half the stability limit 2 / curvature, rounded down to two digits: a step to recommend."""
    return round_down(1.0 / curvature)


def round_down(value: float) -> float:
    """The largest two-digit decimal number <= value > 0."""
    unit = 10.0 ** (math.floor(math.log10(value)) - 1)
    return float(f"{math.floor(value / unit) * unit:.2g}")
