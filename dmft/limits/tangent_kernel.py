"""The lazy limit: regression with the tangent kernel of the initial weights (THEORY section 7b)."""

from __future__ import annotations

from typing import Any

import numpy as np

from dmft.checks import ParameterError
from dmft.limits.spectrum import sample_spectrum
from dmft.limits.times import Observables, check_times, decay_factors, in_blocks
from dmft.losses.quadratic import test_loss_terms
from dmft.models.model import Model


def lazy(model: Model, times: Any) -> Observables:
    """The lazy limit, alpha -> infinity (THEORY section 7b): losses and decomposition, in gradient flow.

    The centred network learns with the kernel of its initialisation, (1/kappa) [X X^T + epsilon^2 (X X^T)^{o2}]; the
    entrywise square is I + (1/D) 1 1^T + o(1). With y = 1/2 + remainder of power 1/2 + label_noise^2 =: v (the mean
    is sum s / 2 and the power sum s^2 / 2 with strengths s_k),

        dDelta/dt = -[(1/kappa)(X X^T + epsilon^2 I) + (epsilon^2/P) 1 1^T] Delta,        Delta(0) = -y.

    Over the spectrum s of (1/kappa) X X^T with weights w (Marchenko-Pastur / kappa and an atom 1 - 1/kappa at 0), the
    mean mode and the remainder are

        x_s' = -(s + epsilon^2/kappa) x_s - epsilon^2 mbar,  x_s(0) = -1/2,  mbar = sum_s w x_s = mean of Delta,
        y_s = e^{-(s + epsilon^2/kappa) t},    train = sum w (x^2 + v y^2),
        test = (g - 1/2)^2 + 1/2 + sum w s [(int x)^2 + v (int y)^2],    g = -epsilon^2 int mbar,

    in this order the variance error, the misalignment error and the power in the linear modes. The matrix of the
    x_s is symmetric in sqrt(w) x_s and diagonalised once: no time stepping, any time at the same cost.

    At finite D the means over data sets deviate by O(1/D): the misalignment error by its cross term with the target,
    an exponentially small train loss by a relative amount that grows with time.

    Args:
        model: centred, without planted overlap (a spike adds a kernel of its own) and without weight decay (which
            would erase the initial weights the kernel is made of). `alpha` is not used.
        times: (T,) times >= 0.

    Returns:
        train_loss, test_loss, variance_error, misalignment_error, linear_power, each (T,).

    Raises:
        ParameterError: a field of the model or `times` is out of range.
    """
    strengths = np.array(model.strengths)
    for name, required in (("centered", True), ("initial_overlap", 0.0), ("weight_decay", 0.0)):
        if getattr(model, name) != required:
            raise ParameterError(
                f"Argument `{name}` must be {required} in the lazy limit, but is {getattr(model, name)}."
            )
    times = check_times(times)
    eigenvalues, weights = sample_spectrum(model.kappa)
    rates = eigenvalues + model.epsilon**2 / model.kappa
    root = np.sqrt(weights)
    matrix = np.diag(rates) + model.epsilon**2 * np.outer(root, root)
    mode_rates, modes = np.linalg.eigh(matrix)
    # the matrix is positive semi-definite; rounding may leave an eigenvalue of 0 slightly below
    mode_rates = np.maximum(mode_rates, 0.0)
    amplitudes = -0.5 * strengths.sum() * (root @ modes)

    def block(times: np.ndarray) -> Observables:
        decay, integral = decay_factors(mode_rates, times, None)
        mean_mode = (decay * amplitudes) @ modes.T  # sqrt(w) x_s
        mean_mode_integral = (integral * amplitudes) @ modes.T
        remainder, remainder_integral = decay_factors(rates, times, None)
        power = 0.5 * (strengths**2).sum() + model.label_noise**2
        train = (mean_mode**2).sum(axis=1) + power * (remainder**2 @ weights)
        linear_power = mean_mode_integral**2 @ eigenvalues + power * (remainder_integral**2 @ (weights * eigenvalues))
        gain = -(model.epsilon**2) * (mean_mode_integral @ root)
        error = 2.0 * gain - strengths.sum()
        terms = test_loss_terms(1.0, error, np.full(times.shape, (strengths**2).sum()), linear_power)
        return {"train_loss": train, **terms._asdict()}

    return in_blocks(block, times)
