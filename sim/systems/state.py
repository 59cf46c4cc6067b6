"""What is trained in any two-layer network, and what its forward pass leaves."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax


class Parameters(NamedTuple):
    """`vectors`, (n, D), one neuron a row, and `readouts` a, (n,), or None if they stay as they are."""

    vectors: Any
    readouts: Any


class Fields(NamedTuple):
    """Preactivations h, (n, P), and residuals Delta, (P,), of n neurons."""

    h: jax.Array
    residual: jax.Array


class With(NamedTuple):
    """A function with its first arguments fixed: two of them are equal, and share compiled code, if these are."""

    function: Callable[..., Any]
    first: tuple[Any, ...]

    def __call__(self, *arguments: Any) -> Any:
        return self.function(*self.first, *arguments)
