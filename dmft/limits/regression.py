"""Linear regression: the linear network (THEORY section 7a) and the single linear neuron (section 7d)."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np

from dmft.checks import ParameterError, check_real
from dmft.limits.spectrum import marchenko_pastur, sample_spectrum
from dmft.limits.times import Observables, check_step, check_times, decay_factors, in_blocks
from dmft.losses.quadratic import overlaps, test_loss_terms
from dmft.models.model import Model
from dmft.twotime.momentum import Momentum, momentum_of


def linear(
    model: Model,
    times: Any,
    *,
    step: float | None = None,
    momentum: float = 0.0,
    nesterov: bool = False,
    schedule: Any = "constant",
) -> Observables:
    """The linear network, epsilon = 0 (THEORY section 7a): every observable, centred or not.

    With c the common weight vector, v = alpha c obeys dv/dt = -(1/kappa) X^T (X v - y) - lambda v, v(0) = 0. So alpha
    drops out of the losses: the time unit carries it. At D = infinity y is noise to a linear model, of power
    v = 3/4 + label_noise^2; with strengths s_k (sum s)^2/4 + (sum s^2)/2 stands in place of 3/4. In the eigenbasis of
    (1/kappa) X^T X, s ~ Marchenko-Pastur, r_s is the learned fraction:

        r_s = s/(s + lambda) (1 - e^{-(s + lambda) t})
        train = v [(1 - 1/kappa) + (1/kappa) int (1 - r_s)^2]
        test = 3/4 + (v/kappa) int r_s^2 / s                 variance error 1/4, misalignment error 1/2
        mean_weight_norm = (test - 3/4) / alpha^2,  overlap = m0^2 e^{-2 lambda t}
        trace = (1 + m0^2) e^{-2 lambda t} + mean_weight_norm

    One explicit step of size dt is one step of gradient descent: the same with e^{-a t} -> (1 - a dt)^{t/dt}, or with
    momentum and a schedule, (1 - a)/rate from the recursion 13.1 of each eigenvalue.

    Args:
        model: `epsilon` must be 0.
        times: (T,) times >= 0; whole multiples of `step` if that is given.
        step: None for gradient flow, or the step of discrete gradient descent, at most 2 / (s_+ + lambda) without
            momentum or schedule.
        momentum, nesterov, schedule: as in `dmft.solve`; a schedule runs to the last of `times`.

    Returns:
        every name of OBSERVABLES, each (T,).

    Raises:
        ParameterError: epsilon is not 0, or `times` or `step` is out of range.
    """
    if model.epsilon != 0.0:
        raise ParameterError(f"Argument `epsilon` must be 0 in the linear limit, but is {model.epsilon:g}.")
    times = check_times(times)
    rule = momentum_of(momentum, nesterov, schedule, step, float(times.max()))
    step = check_step(step, times, model.kappa, model.weight_decay, rule)
    return in_blocks(partial(_linear_block, model, step, rule), times)


def ridge(
    kappa: float,
    times: Any,
    *,
    alpha: float = 1.0,
    initial_norm: float = 1.0,
    initial_alignment: float = 0.0,
    label_noise: float = 0.0,
    weight_decay: float = 0.0,
    step: float | None = None,
    momentum: float = 0.0,
    nesterov: bool = False,
    schedule: Any = "constant",
) -> Observables:
    """One linear neuron on a linear target: ridge regression step by step (THEORY section 7d).

    N = 1, phi(h) = h, f = alpha w.x, y = beta.x + noise of standard deviation sigma. In the eigenbasis of
    (1/kappa) X^T X, s ~ Marchenko-Pastur, with a_s = e^{-(s + lambda) t}, or (1 - (s + lambda) dt)^{t/dt} for discrete
    gradient descent, and r_s = s/(s + lambda) (1 - a_s): alpha w = a alpha w(0) + r beta + noise of power
    (sigma^2/kappa) r^2/s per mode. With q0 = |w(0)|^2/D and m0 = w(0).beta/D,

        alpha m = int [alpha m0 a + r],                                                        m = w.beta/D
        alpha^2 q = int [alpha^2 q0 a^2 + 2 alpha m0 a r + r^2 + (sigma^2/kappa) r^2/s],       q = |w|^2/D
        test = int [alpha^2 q0 a^2 - 2 alpha m0 a (1 - r) + (1 - r)^2 + (sigma^2/kappa) r^2/s]
        train = int s [alpha^2 q0 a^2 - 2 alpha m0 a (1 - r) + (1 - r)^2]
                + sigma^2 [(1 - 1/kappa) + (1/kappa) int (1 - r)^2].

    Args:
        kappa: sample ratio P / D > 0.
        times: (T,) times >= 0; whole multiples of `step` if that is given.
        alpha: output scale, > 0.
        initial_norm: q0 >= 0.
        initial_alignment: m0, of either sign; m0^2 <= q0.
        label_noise: sigma >= 0.
        weight_decay: lambda >= 0.
        step, momentum, nesterov, schedule: as in `linear`.

    Returns:
        train_loss, test_loss, trace and mean_weight_norm (both q), overlap (m^2), each (T,).

    Raises:
        ParameterError: an argument is out of range.
    """
    kappa = check_real("kappa", kappa, above=0.0)
    alpha = check_real("alpha", alpha, above=0.0)
    norm = alpha**2 * check_real("initial_norm", initial_norm, at_least=0.0)
    alignment = alpha * check_real("initial_alignment", initial_alignment)
    noise = check_real("label_noise", label_noise, at_least=0.0) ** 2
    weight_decay = check_real("weight_decay", weight_decay, at_least=0.0)
    if initial_alignment**2 > initial_norm:
        raise ParameterError(
            f"Argument `initial_alignment` must satisfy initial_alignment^2 <= initial_norm = {initial_norm:g}, "
            f"but is {initial_alignment:g}."
        )
    times = check_times(times)
    rule = momentum_of(momentum, nesterov, schedule, step, float(times.max()))
    step = check_step(step, times, kappa, weight_decay, rule)
    eigenvalues, weights = marchenko_pastur(kappa)
    sample_eigenvalues, sample_weights = sample_spectrum(kappa)

    def block(times: np.ndarray) -> Observables:
        decay, integral = decay_factors(eigenvalues + weight_decay, times, step, rule)
        learned = eigenvalues * integral
        noise_power = noise / kappa * (eigenvalues * integral**2)
        error = norm * decay**2 - 2.0 * alignment * decay * (1.0 - learned) + (1.0 - learned) ** 2
        sample_learned = sample_eigenvalues * decay_factors(sample_eigenvalues + weight_decay, times, step, rule)[1]
        size = norm * decay**2 + 2.0 * alignment * decay * learned + learned**2 + noise_power
        weight_norm = size @ weights / alpha**2
        return {
            "train_loss": error @ (weights * eigenvalues) + noise * ((1.0 - sample_learned) ** 2 @ sample_weights),
            "test_loss": (error + noise_power) @ weights,
            "trace": weight_norm,
            "overlap": ((alignment * decay + learned) @ weights / alpha) ** 2,
            "mean_weight_norm": weight_norm.copy(),
        }

    return in_blocks(block, times)


def _linear_block(model: Model, step: float | None, rule: Momentum | None, times: np.ndarray) -> Observables:
    """The formulas of `linear` at a block of times."""
    eigenvalues, weights = sample_spectrum(model.kappa)
    integral = decay_factors(eigenvalues + model.weight_decay, times, step, rule)[1]
    strengths = np.array(model.strengths)
    power = 0.25 * strengths.sum() ** 2 + 0.5 * (strengths**2).sum() + model.label_noise**2
    linear_power = power * (integral**2 @ (weights * eigenvalues))  # r_s^2 / s = s integral^2
    ones = np.ones_like(times)
    terms = test_loss_terms(1.0, -strengths.sum() * ones, (strengths**2).sum() * ones, linear_power)
    bulk = decay_factors(np.array([model.weight_decay]), times, step, rule)[0][:, 0] ** 2
    mean_weight_norm = linear_power / model.alpha**2
    return {
        "train_loss": power * ((1.0 - eigenvalues * integral) ** 2 @ weights),
        **terms._asdict(),
        "trace": (1.0 + sum(model.initial_overlaps)) * bulk + mean_weight_norm,
        **overlaps(model, [overlap * bulk for overlap in model.initial_overlaps]),
        "mean_weight_norm": mean_weight_norm,
    }
