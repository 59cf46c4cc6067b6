"""The population flow: gradient flow on infinitely many samples (THEORY section 7c)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from dmft.checks import RunError
from dmft.limits.times import Observables, check_times
from dmft.losses.quadratic import overlaps, test_loss_terms
from dmft.models.model import Model


def population(model: Model, times: Any) -> Observables:
    """The population flow, kappa -> infinity (THEORY section 7c): every observable, centred or not.

    Averaged over x, -(1/(alpha kappa)) sum_mu Delta phi'(h) x becomes -(D/alpha) E[Delta phi'(h) x], by Stein's lemma
    -wbar' - (epsilon/alpha) A w with A = (1/2)(tr E / D) I + E / D. The common vector, 0 at the start, stays 0, and

        dM/dt = -(epsilon/alpha)(A M + M A) - 2 lambda M,       E = alpha epsilon M' - sum_k s_k beta_k beta_k^T.

    M stays a bulk b I with a spike of eigenvalue o_k D along each beta_k, o_k the overlap. As D -> infinity, b' = b and
    o' = o (or their change since t = 0 when centred), e = alpha epsilon (b' + sum o_k') - sum s_k = tr E / D,

        db/dt = -2 [(epsilon/alpha) e/2 + lambda] b,                                       b(0) = 1
        do_k/dt = -2 [(epsilon/alpha)(e/2 + alpha epsilon o_k' - s_k) + lambda] o_k,       o_k(0) = m_k^2
        trace = b + sum o_k,   test = e^2/4 + sum (alpha epsilon o_k' - s_k)^2/2,   train = test + label_noise^2.

    All equations are integrated for log b and log o, which keeps a small overlap accurate relative to itself.

    Args:
        model: any; `kappa` is not used.
        times: (T,) times >= 0.

    Returns:
        every name of OBSERVABLES, each (T,); mean_weight_norm and linear_power are 0.

    Raises:
        ParameterError: `times` is out of range.
    """
    times = check_times(times)
    gain = model.alpha * model.epsilon
    start, strengths = np.array([1.0, *model.initial_overlaps]), np.array(model.strengths)
    offset = start if model.centered else np.zeros(len(start))

    def error(weights: np.ndarray) -> tuple[Any, Any]:
        """tr E / D and the eigenvalues of E / D along each beta, (K, ...), from (b, o) of shape (1 + K, ...)."""
        change = (weights.T - offset).T
        return gain * change.sum(axis=0) - strengths.sum(), (gain * change[1:].T - strengths).T

    def growth(weights: np.ndarray) -> np.ndarray:
        """d log(b, o) / dt."""
        trace_error, spike_error = error(weights)
        drift = np.array([0.5 * trace_error, *(0.5 * trace_error + spike_error)])
        return -2.0 * (model.epsilon / model.alpha * drift + model.weight_decay)

    weights = _integrate_logarithms(growth, start, times)
    trace_error, spike_error = error(weights)
    zero = np.zeros_like(times)
    terms = test_loss_terms(model.alpha, trace_error, (spike_error**2).sum(axis=0), zero)
    return {
        "train_loss": terms.test_loss + model.label_noise**2,
        **terms._asdict(),
        "trace": weights.sum(axis=0),
        **overlaps(model, weights[1:]),
        "mean_weight_norm": zero.copy(),
    }


def _integrate_logarithms(
    growth: Callable[[np.ndarray], np.ndarray], start: np.ndarray, times: np.ndarray
) -> np.ndarray:
    """Solve d log(z) / dt = growth(z), z(0) = start >= 0, at `times` in any order; a component of 0 stays 0."""
    from scipy.integrate import solve_ivp

    if times.max() == 0.0:
        return np.repeat(start[:, None], times.size, axis=1)
    alive = start > 0.0

    def amplitudes(logarithms: np.ndarray) -> np.ndarray:
        full = np.zeros((start.size, *logarithms.shape[1:]))
        full[alive] = np.exp(logarithms)
        return full

    moments, order = np.unique(times, return_inverse=True)
    solution = solve_ivp(
        lambda _, logarithms: growth(amplitudes(logarithms))[alive],
        (0.0, moments[-1]),
        np.log(start[alive]),
        method="LSODA",
        t_eval=moments,
        rtol=1e-12,
        atol=1e-12,
    )
    if not solution.success:
        raise RunError(f"The population flow could not be integrated to t = {moments[-1]:g}: {solution.message}")
    return amplitudes(solution.y)[:, order]
