"""What is done to the update beside the loss: optax transformations, to be chained with an optimiser.

    optax.chain(orthogonal(), optax.adamw(0.01))        the gradient before the optimiser sees it
    optax.chain(optax.adam(1e-3), on_sphere())          the step after it

Weight decay is that of `optax.adamw`; output scale, dropout and BatchNorm are arguments of `sim.train` and of the
networks.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import optax

from dmft.checks import check_bool, check_real


def orthogonal(*, rescaled: bool = True) -> optax.GradientTransformation:
    """g - (theta.g / theta.theta) theta, tensor by tensor: no step along the weights (arXiv 2501.04697).

    Args:
        rescaled: to the length of g, as the paper's public code has it.
    """
    rescaled = check_bool("rescaled", rescaled)

    def part(g: jax.Array, theta: jax.Array) -> jax.Array:
        tiny = jnp.finfo(g.dtype).tiny
        left = g - jnp.sum(theta * g) / jnp.maximum(jnp.sum(theta**2), tiny) * theta
        return left * (jnp.linalg.norm(g) / jnp.maximum(jnp.linalg.norm(left), tiny)) if rescaled else left

    def update(updates: Any, state: Any, params: Any = None) -> tuple[Any, Any]:
        return jax.tree.map(part, updates, params), state

    return optax.GradientTransformation(optax.init_empty_state, update)


def on_sphere(norm: float | None = None) -> optax.GradientTransformation:
    """After the step all parameters, biases included, are rescaled to |theta| = norm (arXiv 2210.01117, section 3).

    Args:
        norm: > 0; None: that of the initial parameters.
    """
    norm = None if norm is None else check_real("norm", norm, above=0.0)

    def start(params: Any) -> jax.Array:
        length = optax.tree.norm(params)
        return length if norm is None else jnp.full_like(length, norm)

    def update(updates: Any, state: Any, params: Any = None) -> tuple[Any, Any]:
        moved = jax.tree.map(jnp.add, params, updates)
        factor = state / optax.tree.norm(moved)
        return jax.tree.map(lambda new, old: factor * new - old, moved, params), state

    return optax.GradientTransformation(start, update)


def apart(inner: optax.GradientTransformation) -> optax.GradientTransformation:
    """`inner` for each entry of a mapping by itself: norms are those of the entry."""

    def start(params: Any) -> Any:
        return {name: inner.init(part) for name, part in params.items()}

    def update(updates: Any, state: Any, params: Any = None) -> tuple[Any, Any]:
        done = {name: inner.update(updates[name], state[name], params[name]) for name in updates}
        return {name: pair[0] for name, pair in done.items()}, {name: pair[1] for name, pair in done.items()}

    return optax.GradientTransformation(start, update)
