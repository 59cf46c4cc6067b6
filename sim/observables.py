"""Order parameters of a finite network and the losses they give, exactly (THEORY section 2)."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

from dmft.order_parameters import OBSERVABLES, test_loss_terms


def observe(
    residual: jax.Array,
    second_moment: jax.Array,
    mean_weight: jax.Array,
    reference_second_moment: jax.Array,
    reference_mean_weight: jax.Array,
    beta: jax.Array,
    alpha: Any,
    epsilon: jax.Array,
) -> jax.Array:
    """All observables at one time, (8,), in the order of `OBSERVABLES`.

    E = alpha epsilon M' - beta beta^T with M' = M - M_ref and wbar' = wbar - wbar_ref; the references are M(0) and
    wbar(0) when the model is centred, and zero otherwise. Trace, overlap and mean_weight_norm are those of M and wbar.

    Args:
        residual: Delta on the training set, (P,).
        second_moment: M, (D, D).
        mean_weight: wbar, (D,).
        reference_second_moment: M_ref, (D, D).
        reference_mean_weight: wbar_ref, (D,).
        beta: (D,) with |beta|^2 = D.
        alpha: output scale.
        epsilon: weight of the quadratic feature.
    """
    dim = beta.size
    error = alpha * epsilon * (second_moment - reference_second_moment) - jnp.outer(beta, beta)
    change = mean_weight - reference_mean_weight
    terms = test_loss_terms(alpha, jnp.trace(error) / dim, jnp.sum(error**2) / dim**2, change @ change / dim)
    values = {
        "train_loss": jnp.mean(residual**2),
        **terms._asdict(),
        "trace": jnp.trace(second_moment) / dim,
        "overlap": beta @ second_moment @ beta / dim**2,
        "mean_weight_norm": mean_weight @ mean_weight / dim,
    }
    return jnp.stack([values[name] for name in OBSERVABLES])
