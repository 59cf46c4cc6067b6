"""Networks of any polynomial activation, with or without trained readouts: outputs, gradient, exact test error.

    f(x) = alpha sum_j a_j [linear_j h_j + (epsilon/2) nonlinear_j g(h_j)],   h_j = v_j.x,   g of
    `dmft.models.polynomials`

The plain network of N neurons is v_i = w_i, linear_i = nonlinear_i = 1/N; its readouts a_i are 1 unless they are
trained. For g(z) = z^2 and readouts of 1 any rotation of the rows (w_i, 1) / sqrt(N) trains alike, so that
min(N, D + 1) rows with nonlinear_j = 1 are enough (`sim.systems.quadratic`).

In the units of THEORY section 1 weights and readouts obey

    dw_i/dt = -(1/(alpha kappa)) sum_mu Delta_mu a_i phi'(h_i,mu) x_mu,
    da_i/dt = -(1/(alpha kappa D)) sum_mu Delta_mu phi(h_i,mu) = -(1/(alpha P)) sum_mu Delta_mu phi(h_i,mu),

as those of a `dmft.Committee` do: at the learning rate of the weights the readouts would move D times as fast, and be
at rest in a time of order 1/D. So for every parameter

    d theta/dt = -(s/(alpha^2 kappa)) sum_mu Delta_mu df(x_mu)/d theta

with s = N for the weights of the plain network, 1 for rows, and N / D for readouts.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from dmft.models.polynomials import derivative, evaluate, wick_coefficients
from sim.systems.state import Parameters


class Fixed(NamedTuple):
    """What is not trained.

    Attributes:
        alpha: output scale.
        epsilon: weight of the nonlinear feature.
        feature: coefficients of g, (degree + 1,).
        linear: (n,).
        nonlinear: (n,).
        speed: s of the weights: N for the plain network, 1 for reduced rows.
    """

    alpha: Any
    epsilon: Any
    feature: Any
    linear: Any
    nonlinear: Any
    speed: Any


def amplitudes(fixed: Fixed, parameters: Parameters) -> tuple[jax.Array, jax.Array]:
    """Amplitudes of h_j and of (epsilon/2) g(h_j) in f / alpha, (n,) each."""
    if parameters.readouts is None:
        return fixed.linear, fixed.nonlinear
    return parameters.readouts * fixed.linear, parameters.readouts * fixed.nonlinear


def preactivations(parameters: Parameters, inputs: jax.Array) -> jax.Array:
    """h, (n, P), on `inputs` (P, D)."""
    return parameters.vectors @ inputs.T


def outputs(fixed: Fixed, parameters: Parameters, h: jax.Array) -> jax.Array:
    """f, (P,), from the preactivations h, (n, P)."""
    linear, nonlinear = amplitudes(fixed, parameters)
    terms = linear[:, None] * h + ((0.5 * fixed.epsilon) * nonlinear)[:, None] * evaluate(fixed.feature, h)
    return fixed.alpha * (jnp.ones_like(linear) @ terms)


def slopes(fixed: Fixed, parameters: Parameters, h: jax.Array) -> jax.Array:
    """(1/alpha) df/dh_j = a_j [linear_j + (epsilon/2) nonlinear_j g'(h_j)], (n, P)."""
    linear, nonlinear = amplitudes(fixed, parameters)
    return linear[:, None] + ((0.5 * fixed.epsilon) * nonlinear)[:, None] * evaluate(derivative(fixed.feature), h)


def features(fixed: Fixed, h: jax.Array) -> jax.Array:
    """(1/alpha) df/da_j = linear_j h_j + (epsilon/2) nonlinear_j g(h_j), (n, P)."""
    return fixed.linear[:, None] * h + ((0.5 * fixed.epsilon) * fixed.nonlinear)[:, None] * evaluate(fixed.feature, h)


def pull(fixed: Fixed, parameters: Parameters, h: jax.Array, residual: jax.Array, inputs: jax.Array) -> Parameters:
    """(s/alpha) sum_mu Delta_mu df(x_mu)/d theta, shaped like the parameters, with the speed s of each.

    Args:
        fixed: the network.
        parameters: theta, where the derivative is taken.
        h: preactivations there, (n, P).
        residual: Delta, (P,).
        inputs: x, (P, D).
    """
    vectors = fixed.speed * ((slopes(fixed, parameters, h) * residual) @ inputs)
    if parameters.readouts is None:
        return Parameters(vectors, None)
    return Parameters(vectors, (fixed.speed / inputs.shape[1]) * (features(fixed, h) @ residual))


class Components(NamedTuple):
    """A function sum_j sum_m amplitudes[m, j] :h_j^m: in Wick powers of h_j = v_j.x for x ~ N(0, I/D).

    `vectors` is (n, D), `amplitudes` (degree + 1, n).
    """

    vectors: jax.Array
    amplitudes: jax.Array


def components(fixed: Fixed, parameters: Parameters) -> Components:
    """The network f in Wick powers."""
    linear, nonlinear = amplitudes(fixed, parameters)
    variance = jnp.sum(parameters.vectors**2, axis=1) / parameters.vectors.shape[1]
    parts = [0.5 * fixed.epsilon * nonlinear * power for power in wick_coefficients(fixed.feature, variance)]
    parts[1] = parts[1] + linear
    return Components(parameters.vectors, fixed.alpha * jnp.stack(parts))


def target_components(feature: Any, directions: jax.Array, strengths: jax.Array) -> Components:
    """y = (1/2) sum_k strength_k g(beta_k.x) in Wick powers; `directions` (K, D), |beta_k|^2 = D, `strengths` (K,)."""
    powers = wick_coefficients(feature, jnp.ones_like(strengths))
    return Components(directions, jnp.stack([0.5 * strengths * power for power in powers]))


def difference(first: Components, second: Components) -> Components:
    """first - second, of the same degree."""
    return Components(
        jnp.concatenate([first.vectors, second.vectors]),
        jnp.concatenate([first.amplitudes, -second.amplitudes], axis=1),
    )


def inner_by_degree(first: Components, second: Components) -> jax.Array:
    """E[first_m(x) second_m(x)] over x ~ N(0, I/D) for the parts of degree m = 0 .. degree; the sum is E[f g].

    E[:h^m: :h'^m:] = m! (v.v'/D)^m, and parts of different degree are orthogonal.
    """
    overlap = first.vectors @ second.vectors.T / first.vectors.shape[1]
    power, parts = jnp.ones_like(overlap), []
    for m in range(first.amplitudes.shape[0]):
        parts.append(math.factorial(m) * (first.amplitudes[m] @ power @ second.amplitudes[m]))
        power = power * overlap
    return jnp.stack(parts)
