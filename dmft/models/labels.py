"""How labels arise from the teacher's value psi(u) (THEORY section 14).

    teacher      y = psi(u), with Gaussian label noise on the training set
    sign         y = 1 if psi(u) > 0, else -1
    probability  y = 1 with probability 1/(1 + exp(-psi(u))), else -1

Of labels that are signs a share epsilon of the training set is flipped at random: with p(u) the probability of y = 1
without flips, theirs is q(u) = epsilon + (1 - 2 epsilon) p(u). At epsilon = 1/2 they are fair coins. Test labels are
clean: drawn by p(u), free of noise and flips.
"""

from __future__ import annotations

import numpy as np
from scipy.special import expit

#: Names of the kinds of labels.
NAMES = ("teacher", "sign", "probability")


def positive_share(labels: str, psi: np.ndarray) -> np.ndarray:
    """p, the probability of y = 1 where the teacher has the values psi, of the same shape."""
    return expit(psi) if labels == "probability" else (psi > 0.0).astype(np.float64)


def training_share(labels: str, flips: float, psi: np.ndarray) -> np.ndarray:
    """q, the same on the training set, of whose labels the share `flips` is flipped."""
    return flips + (1.0 - 2.0 * flips) * positive_share(labels, psi)


def draw(labels: str, flips: float, psi: np.ndarray, uniform: np.ndarray) -> np.ndarray:
    """Training labels -1 and 1 of teacher values psi, by numbers uniform in (0, 1) of the same shape."""
    return np.where(uniform < training_share(labels, flips, psi), 1.0, -1.0)


def score(labels: str, flips: float, psi: np.ndarray, label: np.ndarray) -> np.ndarray:
    """d log P(y | psi) / d psi of drawn training labels; NaN where that probability jumps."""
    if labels == "sign":
        return np.full_like(psi, np.nan if flips < 0.5 else 0.0)
    p, q = expit(psi), training_share(labels, flips, psi)
    return (1.0 - 2.0 * flips) * p * (1.0 - p) * label / np.where(label > 0.0, q, 1.0 - q)
