"""Networks of any polynomial activation: exact test errors, gradients, tangent kernels, each by a second route."""

import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dmft.checks import precision_context
from dmft.models.model import Model
from dmft.models.polynomials import FEATURES, degree, evaluate, wick_coefficients
from sim.systems.state import Parameters
from sim.variants.experiment import Experiment
from sim.variants.ntk import alignment, centered_alignment, minimum_norm_coefficients
from sim.variants.ridge_functions import (
    components,
    difference,
    inner_by_degree,
    outputs,
    preactivations,
    pull,
)
from sim.variants.system import forward, gradient, select
from sim.variants.task import Task, draw_task, gram_matrix

MODEL = Model(alpha=0.7, epsilon=0.6, kappa=1.5, dim=6, width=9)
VARIANTS = {
    "plain": Experiment(model=MODEL),
    "hermite2": Experiment(model=MODEL, activation="hermite2", target="hermite2", strengths=(1.0, -0.5)),
    "hermite3": Experiment(model=MODEL, activation="hermite3", target="hermite3", train_readout=True),
    "hermite4": Experiment(model=MODEL, activation="hermite4", target="hermite4", weight_scale=0.8),
}
EACH = pytest.mark.parametrize("name", VARIANTS)


@pytest.fixture(autouse=True)
def double_precision():
    with precision_context("float64"):
        yield


def drawn(name: str, form: str = "network") -> tuple[Parameters, Task]:
    return jax.tree.map(jnp.asarray, draw_task(VARIANTS[name], form, 0, 0))


def network(name: str, parameters: Parameters, inputs: np.ndarray) -> Any:
    """f as anyone would write it, in numpy or jax."""
    model, g = MODEL, np.polynomial.Polynomial(FEATURES[VARIANTS[name].activation])
    h = inputs @ parameters.vectors.T
    readouts = 1.0 if parameters.readouts is None else parameters.readouts
    nonlinear = sum(float(c) * h**n for n, c in enumerate(g.coef))
    return model.alpha * (readouts * (h + model.epsilon / 2 * nonlinear)).mean(axis=1)


@pytest.mark.parametrize("feature", FEATURES)
@pytest.mark.parametrize("variance", [0.3, 1.0, 2.5])
def test_wick_coefficients_are_projections(feature: str, variance: float) -> None:
    """c_m = E[g(z) He_m(z / sqrt(q))] / (m! q^(m/2)) by Gauss-Hermite quadrature, z ~ N(0, q)."""
    nodes, weights = np.polynomial.hermite_e.hermegauss(12)
    values = evaluate(FEATURES[feature], np.sqrt(variance) * nodes) * weights / weights.sum()
    for m, coefficient in enumerate(wick_coefficients(FEATURES[feature], variance)):
        basis = np.polynomial.hermite_e.hermeval(nodes, np.eye(m + 1)[m])
        expected = values @ basis / (math.factorial(m) * variance ** (m / 2))
        assert coefficient == pytest.approx(expected, rel=1e-12, abs=1e-12)


@EACH
def test_exact_test_loss_is_the_loss_on_fresh_inputs(name: str) -> None:
    parameters, task = drawn(name)

    @jax.jit
    def test_loss(parameters: Parameters, task: Task) -> jax.Array:
        error = difference(components(task.fixed, parameters), task.target)
        return jnp.sum(inner_by_degree(error, error))

    exact = float(test_loss(parameters, task))
    fresh = np.random.default_rng(0).standard_normal((100_000, MODEL.dim)) / np.sqrt(MODEL.dim)
    g, directions = np.polynomial.Polynomial(FEATURES[VARIANTS[name].target]), np.asarray(task.target.vectors)
    clean = 0.5 * sum(s * g(fresh @ beta) for s, beta in zip(VARIANTS[name].strengths, directions, strict=True))
    squares = (network(name, jax.tree.map(np.asarray, parameters), fresh) - clean) ** 2
    z = (squares.mean() - exact) / (squares.std(ddof=1) / np.sqrt(squares.size))
    assert abs(z) < 4.0
    assert np.mean(clean**2) == pytest.approx(VARIANTS[name].signal(), rel=0.1)


@EACH
def test_labels_are_those_of_the_target(name: str) -> None:
    _, task = drawn(name)
    directions = np.asarray(task.target.vectors)
    np.testing.assert_allclose(directions @ directions.T, MODEL.dim * np.eye(len(directions)), atol=1e-12)
    g = np.polynomial.Polynomial(FEATURES[VARIANTS[name].target])
    expected = 0.5 * sum(s * g(task.inputs @ b) for s, b in zip(VARIANTS[name].strengths, directions, strict=True))
    np.testing.assert_allclose(task.labels, expected, atol=1e-13)
    assert task.target.amplitudes.shape[0] == degree(VARIANTS[name].target) + 1


@EACH
def test_pull_and_kernel_are_those_of_autodiff(name: str) -> None:
    parameters, task = drawn(name)
    h = preactivations(parameters, task.inputs)
    np.testing.assert_allclose(outputs(task.fixed, parameters, h), network(name, parameters, task.inputs), rtol=1e-12)
    jacobian = jax.jacobian(lambda theta: network(name, theta, task.inputs))(parameters)
    residual = jnp.linspace(-1.0, 2.0, task.inputs.shape[0])
    scale = MODEL.width / MODEL.alpha
    pulled = pull(task.fixed, parameters, h, residual, task.inputs)
    expected = np.zeros((len(residual), len(residual)))
    shares = 1.0, 1.0 / MODEL.dim  # readouts move D times more slowly
    for got, slope, share in zip(jax.tree.leaves(pulled), jax.tree.leaves(jacobian), shares, strict=False):
        np.testing.assert_allclose(got, share * scale * jnp.tensordot(residual, slope, 1), rtol=1e-10, atol=1e-12)
        flat = np.asarray(slope).reshape(len(residual), -1)
        expected += share * scale / MODEL.alpha * flat @ flat.T
    np.testing.assert_allclose(gram_matrix(task.fixed, parameters, task.inputs), expected, rtol=1e-10, atol=1e-10)


def test_batches_average_to_the_full_gradient() -> None:
    parameters, task = drawn("hermite3")

    @jax.jit
    def of(part: Task) -> Parameters:
        return gradient(parameters, part, forward(parameters, part))

    full, batches = of(task), [of(select(task, jnp.arange(3 * part, 3 * part + 3))) for part in range(3)]
    for whole, *pieces in zip(full, *batches, strict=True):
        np.testing.assert_allclose(sum(pieces) / 3, whole, rtol=1e-12)


def test_rotated_rows_have_the_same_kernel() -> None:
    (plain, task), (rows, rotated) = drawn("plain"), drawn("plain", "reduced")
    assert rows.vectors.shape[0] < plain.vectors.shape[0]
    np.testing.assert_allclose(
        gram_matrix(rotated.fixed, rows, rotated.inputs), gram_matrix(task.fixed, plain, task.inputs), rtol=1e-10
    )


def test_alignment_is_that_of_cosines() -> None:
    y = jnp.asarray(np.random.default_rng(0).standard_normal(20))
    features = jnp.asarray(np.random.default_rng(1).standard_normal((20, 50)))
    gram = features @ features.T
    assert float(alignment(jnp.outer(y, y), y)) == pytest.approx(1.0)
    cosine = jnp.vdot(gram, jnp.outer(y, y)) / (jnp.linalg.norm(gram) * jnp.linalg.norm(jnp.outer(y, y)))
    assert float(alignment(gram, y)) == pytest.approx(float(cosine))
    shifted = features + 3.0  # a constant in every feature and in the labels is projected out
    assert float(centered_alignment(shifted @ shifted.T, y + 5.0)) == pytest.approx(
        float(centered_alignment(gram, y)), rel=1e-10
    )


def test_minimum_norm_solution_of_a_singular_kernel() -> None:
    rng = np.random.default_rng(0)
    features, residual = rng.standard_normal((12, 5)), rng.standard_normal(12)
    c = minimum_norm_coefficients(features @ features.T, residual)
    np.testing.assert_allclose(features.T @ c, np.linalg.lstsq(features, residual, rcond=None)[0], rtol=1e-9)


@pytest.mark.parametrize(("width", "strengths"), [(2, (1.0,)), (7, (2.0, 0.5)), (12, (1.0, 1.0, 3.0))])
def test_interpolated_weights_end_at_an_exact_solution(width: int, strengths: tuple[float, ...]) -> None:
    experiment = Experiment(model=MODEL.replace(width=width), strengths=strengths, interpolation=1.0)
    parameters, task = jax.tree.map(jnp.asarray, draw_task(experiment, "network", 0, 0))
    h = preactivations(parameters, task.inputs)
    np.testing.assert_allclose(outputs(task.fixed, parameters, h), task.labels, atol=1e-12)
    half, _ = draw_task(experiment.replace(interpolation=0.5), "network", 0, 0)
    none, _ = draw_task(experiment.replace(interpolation=0.0), "network", 0, 0)
    np.testing.assert_allclose(half.vectors, 0.5 * (none.vectors + parameters.vectors), rtol=1e-12)


def test_eigenvector_labels_are_eigenvectors_of_both_sets_together() -> None:
    experiment = Experiment(model=MODEL, target="eigenvector", eigenvector=3, test_samples=20, strengths=(0.5,))
    parameters, task = draw_task(experiment, "network", 0, 0)
    everything = np.concatenate([task.inputs, task.test_inputs])
    labels = np.concatenate([task.labels, task.test_targets])
    gram = gram_matrix(task.fixed, parameters, everything)
    value = labels @ gram @ labels / (labels @ labels)
    np.testing.assert_allclose(gram @ labels, value * labels, atol=1e-10)
    assert np.sum(np.linalg.eigvalsh(gram) > value * (1 + 1e-9)) == 2
    assert np.mean(labels**2) == pytest.approx(0.25)
