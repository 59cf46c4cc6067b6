"""The networks as Equinox modules of whole batches."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from dmft.checks import ParameterError

try:
    import equinox as eqx
except ImportError:
    raise ParameterError(
        "Argument `network` needs the package equinox, which is not installed: pip install 'dmft-learning[lab]'."
    ) from None


class Batched(eqx.Module):
    """A module that maps a whole batch x, (B, ...), to outputs, (B, K).

    It is called with `key`, a random key in training and None at observations (dropout), and `reference`: how many of
    the first samples give the statistics of BatchNorm. A test sample is so normalised by the whole training set,
    exactly, where others keep running means.
    """

    @property
    def normalized(self) -> bool:
        """Whether a sample's output depends on the others of its batch."""
        return False

    @property
    def random(self) -> bool:
        """Whether it drops out."""
        return False


def dropped(h: jax.Array, rate: float, key: jax.Array | None) -> jax.Array:
    """Dropout: each entry is 0 with probability `rate`, else divided by 1 - rate."""
    if key is None or rate == 0.0:
        return h
    kept = jax.random.bernoulli(key, 1.0 - rate, h.shape)
    return jnp.where(kept, h / (1.0 - rate), 0.0)


def normalized(h: jax.Array, reference: int, epsilon: float = 1e-5) -> jax.Array:
    """(h - mean) / sqrt(variance + epsilon), over the first `reference` rows of h, (B, N)."""
    seen = h[:reference]
    return (h - jnp.mean(seen, axis=0)) / jnp.sqrt(jnp.var(seen, axis=0) + epsilon)


class Linear(NamedTuple):
    """Weights (out, in) and biases (out,), or None."""

    weight: Any
    bias: Any

    def __call__(self, x: jax.Array) -> jax.Array:
        z = x @ self.weight.T
        return z if self.bias is None else z + self.bias


class MLP(Batched):
    """Layers with an activation between; tokens enter one-hot, side by side."""

    layers: list[Linear]
    activation: Callable[[Any], Any] = eqx.field(static=True)
    scale: float = eqx.field(static=True)
    dropout: float = eqx.field(static=True)
    vocabulary: int | None = eqx.field(static=True)

    @property
    def random(self) -> bool:
        return self.dropout > 0.0

    def __call__(self, x: jax.Array, *, key: jax.Array | None = None, reference: int | None = None) -> jax.Array:
        """Outputs, (B, K)."""
        del reference
        h = x if self.vocabulary is None else jax.nn.one_hot(x, self.vocabulary, dtype=self.layers[0].weight.dtype)
        h = h.reshape(len(x), -1)
        for i, layer in enumerate(self.layers[:-1]):
            h = self.activation(layer(h))
            h = dropped(h, self.dropout, None if key is None else jax.random.fold_in(key, i))
        return self.scale * self.layers[-1](h)


class TwoEmbeddings(Batched):
    """f = scale W phi(U e_m + V e_n): `left` (p, N) is U^T, `right` (p, N) V^T, `readout` (K, N) W."""

    left: Any
    right: Any
    readout: Any
    norm: Linear | None
    activation: Callable[[Any], Any] = eqx.field(static=True)
    scale: float = eqx.field(static=True)
    dropout: float = eqx.field(static=True)

    @property
    def normalized(self) -> bool:
        return self.norm is not None

    @property
    def random(self) -> bool:
        return self.dropout > 0.0

    def __call__(self, x: jax.Array, *, key: jax.Array | None = None, reference: int | None = None) -> jax.Array:
        """Outputs, (B, K)."""
        h = self.activation(self.left[x[:, 0]] + self.right[x[:, 1]])
        if self.norm is not None:
            h = self.norm.weight * normalized(h, reference or len(x)) + self.norm.bias
        return self.scale * (dropped(h, self.dropout, key) @ self.readout.T)


class Transformer(Batched):
    """One layer on the tokens and a last one, "=", from whose place the answer is read (others need not be computed).

    Residual stream of width d, causal attention, a feed-forward layer; LayerNorm before each of them and before the
    readout, without affine part, or none.
    """

    embedding: Any  # (vocabulary + 1, d)
    positions: Any  # (T + 1, d) or None
    query: Any  # (d, d)
    key: Any
    value: Any
    output: Any
    up: Linear
    down: Linear
    readout: Any  # (K, d)
    activation: Callable[[Any], Any] = eqx.field(static=True)
    heads: int = eqx.field(static=True)
    layernorm: bool = eqx.field(static=True)
    scale: float = eqx.field(static=True)
    dropout: float = eqx.field(static=True)

    @property
    def random(self) -> bool:
        return self.dropout > 0.0

    def _norm(self, h: jax.Array) -> jax.Array:
        if not self.layernorm:
            return h
        centered = h - jnp.mean(h, axis=-1, keepdims=True)
        return centered / jnp.sqrt(jnp.mean(centered**2, axis=-1, keepdims=True) + 1e-5)

    def __call__(self, x: jax.Array, *, key: jax.Array | None = None, reference: int | None = None) -> jax.Array:
        """Outputs, (B, K)."""
        del reference
        equals = jnp.full((len(x), 1), self.embedding.shape[0] - 1, x.dtype)
        stream = self.embedding[jnp.concatenate([x, equals], axis=1)]
        if self.positions is not None:
            stream = stream + self.positions
        seen = self._norm(stream)
        size, count, width = *seen.shape[:2], seen.shape[2] // self.heads

        def by_head(weights: jax.Array, of: jax.Array) -> jax.Array:
            return (of @ weights.T).reshape(*of.shape[:-1], self.heads, width)

        query, keys, values = by_head(self.query, seen[:, -1]), by_head(self.key, seen), by_head(self.value, seen)
        scores = jnp.einsum("bhw,bthw->bht", query, keys) / math.sqrt(width)
        mixed = jnp.einsum("bht,bthw->bhw", jax.nn.softmax(scores), values).reshape(size, -1)
        last = stream[:, count - 1] + mixed @ self.output.T
        hidden = dropped(self.activation(self.up(self._norm(last))), self.dropout, key)
        return self.scale * (self._norm(last + self.down(hidden)) @ self.readout.T)


class Applied(Batched):
    """A pair of one's own: any pytree of arrays and apply(pytree, x)."""

    parameters: Any
    apply: Callable[[Any, Any], Any] = eqx.field(static=True)

    def __call__(self, x: jax.Array, *, key: jax.Array | None = None, reference: int | None = None) -> jax.Array:
        """Outputs, (B, K)."""
        del key, reference
        return self.apply(self.parameters, x)
