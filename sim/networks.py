"""Networks without a theory: Equinox modules for a task, and any network of one's own.

A `Network` is a recipe: it builds a module for the shape of a task and a random key, so that every replica draws its
own weights. What else `sim.train` takes in its place: an Equinox module, which maps one sample (all replicas begin at
its weights); a function of a key that makes one; a pair (init, apply), init(key) -> any pytree of arrays, apply(pytree,
x) -> outputs (B, K) for a batch x (B, ...).
"""

from __future__ import annotations

import dataclasses
import functools
import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from dmft.checks import ParameterError, check_bool, check_integer, check_real, spelt
from dmft.models.fingerprint import ByContent, describe
from sim.lab.modules import MLP, Applied, Linear, Transformer, TwoEmbeddings, eqx

ACTIVATIONS: dict[str, Callable[[Any], Any]] = {
    "relu": jax.nn.relu,
    "tanh": jnp.tanh,
    "square": jnp.square,
    "gelu": jax.nn.gelu,
    "erf": jax.scipy.special.erf,
    "linear": lambda h: h,
}


class Shape(NamedTuple):
    """What a network must fit.

    Attributes:
        inputs: shape of a sample.
        vocabulary: tokens below this number; None for numbers.
        outputs: K.
    """

    inputs: tuple[int, ...]
    vocabulary: int | None
    outputs: int


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Network(ByContent):
    """A recipe: (shape, key) -> module, with its settings as attributes."""

    name: str
    build: Callable[[Shape, jax.Array], Any]
    attributes: Mapping[str, Any] = dataclasses.field(default_factory=dict)

    def to_attributes(self) -> dict[str, Any]:
        """As NetCDF attributes."""
        return {"network": self.name, **{f"network_{name}": value for name, value in self.attributes.items()}}


@spelt
def mlp(
    widths: Sequence[int] = (200, 200),
    *,
    activation: str | Callable[[Any], Any] = "relu",
    bias: bool = True,
    scale: float = 1.0,
    dropout: float = 0.0,
) -> Network:
    """A multilayer perceptron with hidden layers of these widths.

    Weights and biases are even in +-1/sqrt(inputs of the layer). Outputs are multiplied by `scale`. Tokens enter as
    one-hot vectors side by side.
    """
    widths = tuple(check_integer("widths", width, at_least=1) for width in widths)
    settings = {"bias": check_bool("bias", bias), "scale": _scale(scale), "dropout": _rate(dropout)}
    build = functools.partial(_build_mlp, widths=widths, activation=_activation(activation), **settings)
    about = {"widths": str(widths), "activation": _named(activation), **settings, "bias": int(settings["bias"])}
    return Network(name="mlp", build=build, attributes=about)


def _build_mlp(
    shape: Shape, key: jax.Array, *, widths: Any, activation: Any, bias: bool, scale: float, dropout: float
) -> MLP:
    inputs = math.prod(shape.inputs) * (shape.vocabulary or 1)
    sizes = (inputs, *widths, shape.outputs)
    layers = []
    for i, (fan_in, fan_out) in enumerate(itertools.pairwise(sizes)):
        keys, bound = jax.random.split(jax.random.fold_in(key, i)), 1.0 / math.sqrt(fan_in)
        weight = jax.random.uniform(keys[0], (fan_out, fan_in), minval=-bound, maxval=bound)
        layers.append(
            Linear(weight, jax.random.uniform(keys[1], (fan_out,), minval=-bound, maxval=bound) if bias else None)
        )
    return MLP(layers, activation, scale, dropout, shape.vocabulary)


@spelt
def two_embeddings(
    width: int = 500,
    *,
    activation: str | Callable[[Any], Any] = "square",
    deviation: float | None = None,
    scale: float = 1.0,
    batchnorm: bool = False,
    dropout: float = 0.0,
) -> Network:
    """f = scale W phi(U e_m + V e_n) on two tokens: the network of modular arithmetic (arXiv 2310.13061).

    All weights are N(0, deviation^2); left out: (16 N)^(-2/3). BatchNorm, with its scale and shift, comes after phi.
    """
    width = check_integer("width", width, at_least=1)
    deviation = (16.0 * width) ** (-2.0 / 3.0) if deviation is None else check_real("deviation", deviation, above=0.0)
    settings = {"width": width, "deviation": deviation, "scale": _scale(scale), "dropout": _rate(dropout)}
    settings |= {"batchnorm": check_bool("batchnorm", batchnorm)}
    build = functools.partial(_build_two, activation=_activation(activation), **settings)
    about = {**settings, "activation": _named(activation), "batchnorm": int(settings["batchnorm"])}
    return Network(name="two_embeddings", build=build, attributes=about)


def _build_two(
    shape: Shape,
    key: jax.Array,
    *,
    width: int,
    activation: Any,
    deviation: float,
    scale: float,
    batchnorm: bool,
    dropout: float,
) -> TwoEmbeddings:
    if shape.vocabulary is None or shape.inputs != (2,):
        raise ParameterError(
            f"Argument `network` must fit the task: two_embeddings takes two tokens, but samples have shape "
            f"{shape.inputs} and vocabulary {shape.vocabulary}."
        )
    keys = jax.random.split(key, 3)
    sizes = (shape.vocabulary, shape.vocabulary, shape.outputs)
    weights = [deviation * jax.random.normal(one, (rows, width)) for one, rows in zip(keys, sizes, strict=True)]
    norm = Linear(jnp.ones(width), jnp.zeros(width)) if batchnorm else None
    left, right, readout = weights
    return TwoEmbeddings(
        left=left, right=right, readout=readout, norm=norm, activation=activation, scale=scale, dropout=dropout
    )


@spelt
def transformer(
    width: int = 128,
    *,
    heads: int = 4,
    hidden: int = 512,
    activation: str | Callable[[Any], Any] = "relu",
    positions: bool = True,
    layernorm: bool = False,
    scale: float = 1.0,
    dropout: float = 0.0,
) -> Network:
    """A transformer of one layer on tokens; weights N(0, 1 / inputs of the layer), embeddings N(0, 1 / width).

    Raises:
        ParameterError: an argument is out of range, or the width is no multiple of `heads`.
    """
    width, heads = check_integer("width", width, at_least=1), check_integer("heads", heads, at_least=1)
    if width % heads:
        raise ParameterError(f"Argument `width` must be a multiple of heads = {heads}, but is {width}.")
    settings = {"width": width, "heads": heads, "hidden": check_integer("hidden", hidden, at_least=1)}
    settings |= {"positions": check_bool("positions", positions), "layernorm": check_bool("layernorm", layernorm)}
    settings |= {"scale": _scale(scale), "dropout": _rate(dropout)}
    build = functools.partial(_build_transformer, activation=_activation(activation), **settings)
    about = {name: int(value) if isinstance(value, bool) else value for name, value in settings.items()}
    return Network(name="transformer", build=build, attributes={**about, "activation": _named(activation)})


def _build_transformer(
    shape: Shape,
    key: jax.Array,
    *,
    width: int,
    heads: int,
    hidden: int,
    activation: Any,
    positions: bool,
    layernorm: bool,
    scale: float,
    dropout: float,
) -> Transformer:
    if shape.vocabulary is None or len(shape.inputs) != 1:
        raise ParameterError(
            f"Argument `network` must fit the task: a transformer takes tokens, but samples have shape {shape.inputs} "
            f"and vocabulary {shape.vocabulary}."
        )
    keys = iter(jax.random.split(key, 9))

    def draw(*size: int, fan_in: int) -> jax.Array:
        return jax.random.normal(next(keys), size) / math.sqrt(fan_in)

    embedding = draw(shape.vocabulary + 1, width, fan_in=width)
    places = draw(shape.inputs[0] + 1, width, fan_in=width)
    attention = [draw(width, width, fan_in=width) for _ in range(4)]
    up = Linear(draw(hidden, width, fan_in=width), jnp.zeros(hidden))
    down = Linear(draw(width, hidden, fan_in=hidden), jnp.zeros(width))
    readout = draw(shape.outputs, width, fan_in=width)
    query, attended, value, output = attention
    return Transformer(
        embedding=embedding,
        positions=places if positions else None,
        query=query,
        key=attended,
        value=value,
        output=output,
        up=up,
        down=down,
        readout=readout,
        activation=activation,
        heads=heads,
        layernorm=layernorm,
        scale=scale,
        dropout=dropout,
    )


def scaled(network: Any, factor: float) -> Network:
    """The network whose initial parameters, all of them, are multiplied by `factor`."""
    inner, factor = as_network(network), check_real("factor", factor, above=0.0)
    build = functools.partial(_build_scaled, inner.build, factor)
    return Network(name=inner.name, build=build, attributes={**inner.attributes, "initial_factor": factor})


def _build_scaled(build: Any, factor: float, shape: Shape, key: jax.Array) -> Any:
    return jax.tree.map(lambda leaf: factor * leaf if eqx.is_inexact_array(leaf) else leaf, build(shape, key))


def as_network(given: Any) -> Network:
    """`given` itself, or the Network that an Equinox module, a function of a key or a pair (init, apply) stands for.

    Raises:
        ParameterError: it is none of these.
    """
    if isinstance(given, Network):
        return given
    if isinstance(given, eqx.Module):
        return Network(name="module", build=functools.partial(_given, given))
    if isinstance(given, tuple) and len(given) == 2 and all(map(callable, given)):
        return Network(name="functions", build=functools.partial(_pair, *given))
    if callable(given):
        return Network(name=describe(given), build=functools.partial(_made, given))
    raise ParameterError(
        "Argument `network` must be one of sim.networks, an Equinox module, a function of a random key that makes one, "
        f"or a pair (init, apply), but is {given!r}."
    )


def _given(module: Any, shape: Shape, key: jax.Array) -> Any:
    del shape, key
    return module


def _made(make: Any, shape: Shape, key: jax.Array) -> Any:
    del shape
    return make(key)


def _pair(init: Any, apply: Any, shape: Shape, key: jax.Array) -> Applied:
    del shape
    return Applied(init(key), apply)


def _activation(given: str | Callable[[Any], Any]) -> Callable[[Any], Any]:
    if callable(given):
        return given
    if given not in ACTIVATIONS:
        raise ParameterError(
            f"Argument `activation` must be one of {', '.join(ACTIVATIONS)} or a function, but is {given!r}."
        )
    return ACTIVATIONS[given]


def _named(given: str | Callable[[Any], Any]) -> str:
    return given if isinstance(given, str) else describe(given)


def _scale(given: object) -> float:
    return check_real("scale", given, above=0.0)


def _rate(given: object) -> float:
    rate = check_real("dropout", given, at_least=0.0)
    if rate >= 1.0:
        raise ParameterError(f"Argument `dropout` must be a number >= 0 and < 1, but is {rate:g}.")
    return rate
