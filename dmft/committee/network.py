"""What the committee engine needs to know of the network and its loss, and the kinks smoothed.

Steps need no derivative of the forces, and leave kinks as they are. A row of the flow is a root, which need not exist
where a force jumps; and a kink of phi (ReLU's at 0) puts delta functions into phi'', which enter the tangents dg_i(t)
and, through a sample's own later tangents, all later responses. So flow and responses are those of a network whose
kinks are smoothed over a width w: exact for that network, and it differs from the kinked one by O(w^2), which two
widths on the same samples extrapolate away in the flow (dmft.committee.estimate).

The step theta(h) becomes theta_w(h) = Phi(x) + c x Phi'(x), x = h/w, with Phi the normal distribution function. Any
symmetric smoothing keeps int (theta_w - theta) = 0; but the noise Gamma_ii(t, t) = E[theta_w^2 ...] would be off by
-w p(0) int theta_w (1 - theta_w) dx. With c = 2 sqrt(2) - 2 that integral, (1 - c - c^2/4)/sqrt(pi), is zero as well.

A kink of the loss (hinge's at y f = 1) is the same in l'', and smoothed likewise, over a width in units of the labels.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import jax.numpy as jnp
from jax.scipy.stats import norm

from dmft.models.activations import Activation
from dmft.models.losses import Loss

#: c of the smoothed step.
OVERSHOOT = 2.0 * math.sqrt(2.0) - 2.0


class Network(NamedTuple):
    """All of the network that is compiled in (hashable: a static argument); epsilon is a number like others."""

    activation: Activation
    loss: Loss
    centered: bool
    train_readout: bool


def smoothed(activation: Activation, h: Any, width: Any) -> tuple[Any, Any, Any]:
    """phi, phi', phi'' at h, with every kink smoothed over `width`; if that is None as it is, without its delta."""
    value, slope, curvature = activation.value(h), activation.slope(h), activation.curvature(h)
    for place, jump in activation.kinks if width is not None else ():
        x = (h - place) / width
        density, step = norm.pdf(x), norm.cdf(x)
        value += jump * (width * (x * step + (1 - OVERSHOOT) * density) - jnp.maximum(h - place, 0.0))
        more, delta = smoothed_jump(x, jump, width)
        slope, curvature = slope + more, curvature + delta
    return value, slope, curvature


def smoothed_loss(loss: Loss, residual: Any, label: Any, width: Any) -> tuple[Any, Any]:
    """l', l'' at (Delta, y), with every kink smoothed over `width`; if that is None as it is."""
    slope, curvature = loss.slope(residual, label), loss.curvature(residual, label)
    for where, place, jump in loss.kinks if width is not None else ():
        more, delta = smoothed_jump((residual - place) / width, jnp.where(label == where, jump, 0.0), width)
        slope, curvature = slope + more, curvature + delta
    return slope, curvature


def smoothed_jump(x: Any, jump: Any, width: Any) -> tuple[Any, Any]:
    """What is added to a slope that jumps at x = 0, and to its derivative, which has a delta function there."""
    density, step = norm.pdf(x), norm.cdf(x)
    more = jump * (step + OVERSHOOT * x * density - jnp.where(x > 0, 1.0, 0.0))
    return more, jump * density * (1 + OVERSHOOT * (1 - x**2)) / width
