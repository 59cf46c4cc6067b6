"""Logistic regression at late times: the replica formula (THEORY section 14)."""

from __future__ import annotations

import numpy as np
from scipy.special import expit

from dmft.checks import ParameterError
from dmft.models import labels
from dmft.models.committee import Committee

#: Nodes of the averages over u and z, iterations at most, and the change that ends them.
_NODES, _ROUNDS, _CHANGE = 80, 20_000, 1e-10


def logistic(model: Committee) -> dict[str, float]:
    """Where one linear neuron with the logistic loss ends, t -> infinity, with or without weight decay.

    With theta = alpha w, M = theta.beta/D, Q = |theta|^2/D, rho = kappa lambda and f = prox(omega), the root of
    f + V l'(f, y) = omega = M u + (Q - M^2)^(1/2) z:

        1/V = rho + kappa E[l''/(1 + V l'')],   rho M = -kappa E[l' u],   Q - M^2 = kappa V^2 E[l'^2].

    Iterated with the second as M = V (kappa E[l''/(1 + V l'')] M - kappa E[l' u]).

    Args:
        model: width 1, activation "linear", readout 1, loss "logistic", a teacher of one direction, labels that are
            signs; not centred. What it starts at does not matter.

    Returns:
        train_loss, test_loss, margin, teacher_overlap (M/alpha) and self_overlap (Q/alpha^2).

    Raises:
        ParameterError: it is another model, or without weight decay its data are separable and the weights grow for
            ever.
    """
    _check(model)
    nodes, weights = np.polynomial.hermite_e.hermegauss(_NODES)
    u, z = (part.ravel() for part in np.meshgrid(nodes, nodes))
    weight, psi = np.outer(weights, weights).ravel() / weights.sum() ** 2, model.psi.values(u[:, None])
    share = labels.training_share(model.labels, model.label_flips, psi)
    kappa, ridge = model.kappa, model.kappa * model.weight_decay
    v, m, q = 1.0, 0.0, 1.0
    for _ in range(_ROUNDS):
        omega = m * u + np.sqrt(q - m**2) * z
        pull, power, gain, loss, margin = (
            weight @ (share * up + (1.0 - share) * down)
            for up, down in zip(_averaged(omega, u, v, 1.0), _averaged(omega, u, v, -1.0), strict=True)
        )
        v_next = 1.0 / (ridge + kappa * gain)
        m_next = v_next * kappa * (gain * m - pull)
        q_next = m_next**2 + kappa * v_next**2 * power
        change = max(abs(v_next - v), abs(m_next - m), abs(q_next - q))
        v, m, q = (0.5 * (old + new) for old, new in ((v, v_next), (m, m_next), (q, q_next)))
        if change < _CHANGE * (1.0 + q):
            clean = labels.positive_share(model.labels, psi)
            tested = clean * np.logaddexp(0.0, -omega) + (1.0 - clean) * np.logaddexp(0.0, omega)
            overlaps = {"teacher_overlap": m / model.alpha, "self_overlap": q / model.alpha**2}
            return {"train_loss": loss, "test_loss": weight @ tested, "margin": margin, **overlaps}
        if not q < 1e8:
            break
    raise ParameterError(
        f"Argument `weight_decay` must be > 0 at kappa = {model.kappa:g}, but is {model.weight_decay:g}: there is no "
        "finite end, as where the data are separable."
    )


def _averaged(omega: np.ndarray, u: np.ndarray, v: float, label: float) -> list[np.ndarray]:
    """l' u, l'^2, l''/(1 + V l''), l and y f at f = prox(omega), found by Newton's method; l' = -y/(1 + e^(y f))."""
    f = omega.copy()
    for _ in range(100):
        wrong = expit(-label * f)
        step = (f - v * label * wrong - omega) / (1.0 + v * wrong * (1.0 - wrong))
        f -= np.clip(step, -2.0, 2.0)
        if np.max(np.abs(step)) < 1e-12:
            break
    wrong = expit(-label * f)
    stiff = wrong * (1.0 - wrong)
    return [-label * wrong * u, wrong**2, stiff / (1.0 + v * stiff), np.logaddexp(0.0, -label * f), label * f]


def _check(model: Committee) -> None:
    asked = {"width": 1, "activation": "linear", "loss": "logistic", "teacher_dim": 1, "centered": False}
    for name, value in asked.items():
        if getattr(model, name) != value:
            raise ParameterError(f"Argument `{name}` must be {value!r} here, but is {getattr(model, name)!r}.")
    if model.readouts[0] != 1.0 or model.train_readout:
        raise ParameterError(f"Argument `readout` must be 1 and stay there, but is {model.readouts[0]:g}.")
