"""Losses from order parameters (THEORY section 2).

For any weights, with wbar = (1/N) sum w_i, M = (1/N) sum w_i w_i^T and E = alpha epsilon M' - sum_k s_k beta_k beta_k^T
(M' = M and wbar' = wbar, or their change since t = 0 when centred), the test loss against clean labels is

    test = (1/4)(tr E / D)^2 + |E|_F^2 / (2 D^2) + (alpha^2 / D) |wbar'|^2
           [variance error]    [misalignment error]  [linear power]
"""

from __future__ import annotations

import re
from typing import Any, NamedTuple

from dmft.models.model import Model

#: Every observable: its meaning, as written on axes and in files. All are dimensionless.
OBSERVABLES: dict[str, str] = {
    "train_loss": "mean squared residual on the training set",
    "test_loss": "mean squared error on new inputs, clean labels",
    "variance_error": "(1/4) (tr E / D)^2",
    "misalignment_error": "|E|_F^2 / (2 D^2)",
    "linear_power": "(alpha^2 / D) |mean weight|^2",
    "trace": "tr M / D",
    "overlap": "sum_k beta_k^T M beta_k / D^2",
    "mean_weight_norm": "|mean weight|^2 / D",
}


def is_observable(name: str) -> bool:
    """Whether this is one of OBSERVABLES, or the overlap of one of several directions."""
    return name in OBSERVABLES or re.fullmatch(r"overlap_[1-9]\d*", name) is not None


def overlap_names(model: Model) -> tuple[str, ...]:
    """overlap_1, overlap_2, ...: of each direction, if there are several; `overlap` is their sum."""
    return tuple(f"overlap_{k}" for k in range(1, model.directions + 1)) if model.directions > 1 else ()


def overlaps(model: Model, each: Any) -> dict[str, Any]:
    """The observables `overlap` and, of several directions, `overlap_1`, ... from those of each direction, K arrays."""
    return {"overlap": sum(each[1:], start=each[0])} | dict(zip(overlap_names(model), each, strict=False))


def observables(model: Model) -> dict[str, str]:
    """The observables of a model, with their meanings."""
    each = {name: f"beta_{k}^T M beta_{k} / D^2" for k, name in enumerate(overlap_names(model), start=1)}
    return OBSERVABLES | each


class TestLoss(NamedTuple):
    """The test loss and its three parts, each with the shape of the inputs."""

    __test__ = False  # not a test class

    test_loss: Any
    variance_error: Any
    misalignment_error: Any
    linear_power: Any


def test_loss_terms(alpha: float, error_trace: Any, error_frobenius: Any, mean_weight_norm: Any) -> TestLoss:
    """The decomposition of the test loss (THEORY section 2).

    Args:
        alpha: output scale.
        error_trace: tr E / D, any shape.
        error_frobenius: |E|_F^2 / D^2, same shape.
        mean_weight_norm: |wbar'|^2 / D, same shape.
    """
    variance_error = 0.25 * error_trace**2
    misalignment_error = 0.5 * error_frobenius
    linear_power = alpha**2 * mean_weight_norm
    return TestLoss(
        variance_error + misalignment_error + linear_power, variance_error, misalignment_error, linear_power
    )


test_loss_terms.__test__ = False  # type: ignore[attr-defined]  # not a test function
