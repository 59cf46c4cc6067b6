"""Losses, interventions and measures of networks against plain NumPy."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from dmft.checks import ParameterError, precision_context
from sim import interventions, measures, networks, tasks
from sim.lab import losses, modules

GENERATOR = np.random.default_rng(0)
#: Logits from flat to collapsed, and labels: mostly the largest.
LOGITS = (GENERATOR.standard_normal((60, 7)) * np.geomspace(0.1, 60.0, 60)[:, None]).astype(np.float32)
LABELS = np.where(GENERATOR.random(60) < 0.8, LOGITS.argmax(axis=1), GENERATOR.integers(0, 7, 60)).astype(np.int32)
GAPS = {"float16": 11 * np.log(2), "float32": 24 * np.log(2), "float64": 53 * np.log(2)}


def softmax_in(z: np.ndarray, bits: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Shifted logits, exponentials and their sum in this precision."""
    z = z.astype(bits)
    shifted = z - z.max(axis=1, keepdims=True)
    powers = np.exp(shifted)
    wide = np.float32 if bits == "float16" else bits
    return shifted, powers, powers.sum(axis=1, keepdims=True, dtype=wide).astype(bits)


@pytest.mark.parametrize("bits", losses.PRECISIONS)
def test_cross_entropy_and_collapse_in_a_precision(bits: str) -> None:
    shifted, powers, total = softmax_in(LOGITS, bits)
    hot = np.eye(7)[LABELS]
    expected = np.log(total[:, 0]) - shifted[np.arange(60), LABELS]
    with precision_context("float32"):
        loss = losses.LOSSES[f"cross_entropy_{bits}"]
        found, pull = jax.vjp(lambda z: loss.samples(z, LABELS), LOGITS)
        (gradient,) = pull(jnp.ones(60))
        collapsed = np.asarray(losses.collapsed(LOGITS, bits))
        share = float(measures.collapse(LOGITS, bits))
    unit = {"float16": 2e-3, "float32": 1e-6, "float64": 2e-7}[bits]  # 64 bits are given back in 32
    np.testing.assert_allclose(found, expected, rtol=2 * unit, atol=unit)
    np.testing.assert_allclose(gradient, powers / total - hot, rtol=0, atol=2 * unit)
    certain = np.abs(np.sort(shifted, axis=1)[:, -2] + GAPS[bits]) > 0.75  # a sum just beside 1 may round to it
    np.testing.assert_array_equal(collapsed[certain], (total[:, 0] == 1.0)[certain])
    assert 0.0 < share < 1.0
    assert certain.mean() > 0.8
    dead = collapsed & (LOGITS.argmax(axis=1) == LABELS)
    assert (np.asarray(found)[dead] == 0.0).all()
    assert (np.asarray(gradient)[dead, LABELS[dead]] == 0.0).all()


def test_collapse_begins_at_the_gap_of_the_precision() -> None:
    with precision_context("float32"):
        for bits, gap in GAPS.items():
            for factor, expected in ((0.95, 0.0), (1.05, 1.0)):
                z = np.array([[factor * gap, 0.0]], np.float32)
                assert float(measures.collapse(z, bits)) == expected


def test_no_logits_make_stablemax_zero() -> None:
    z = jnp.array([[1e7, -1e7], [1e12, -1e12]], jnp.float32)
    loss, gradient = jax.value_and_grad(lambda value: jnp.sum(losses.stablemax(value, jnp.array([0, 0]))))(z)
    assert 0 < float(loss) < 1e-13
    assert np.all(np.asarray(gradient) != 0)


def test_stablemax_logistic_and_square() -> None:
    z = LOGITS.astype(np.float64)
    s = np.where(z >= 0.0, z + 1.0, 1.0 / (1.0 - np.where(z < 0.0, z, 0.0)))
    rows = np.arange(60)
    with precision_context("float64"):
        found, gradient = jax.vjp(lambda value: losses.stablemax(value, LABELS), z)
        np.testing.assert_allclose(found, -np.log(s[rows, LABELS] / s.sum(axis=1)), rtol=1e-12)
        assert np.isfinite(np.asarray(gradient(jnp.ones(60))[0])).all()
        y = LABELS % 2
        expected = np.log1p(np.exp(-np.where(y == 1, 1.0, -1.0) * z[:, 0]))
        np.testing.assert_allclose(losses.logistic(z[:, :1], y), expected, rtol=1e-12, atol=1e-300)
        np.testing.assert_allclose(losses.square(z, LABELS), np.mean((z - np.eye(7)[LABELS]) ** 2, axis=1))
        np.testing.assert_allclose(losses.square(z, z + 2.0), 4.0)


def pieces() -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """Parameters and a gradient."""
    draw = GENERATOR.standard_normal
    return {"a": draw((4, 3)), "b": draw(5)}, {"a": draw((4, 3)), "b": draw(5)}


@pytest.mark.parametrize("rescaled", [True, False])
def test_orthogonal_gradient(rescaled: bool) -> None:
    theta, g = pieces()
    with precision_context("float64"):
        rule = interventions.orthogonal(rescaled=rescaled)
        found, _ = rule.update(g, rule.init(theta), theta)
    for name in theta:
        left = g[name] - np.sum(theta[name] * g[name]) / np.sum(theta[name] ** 2) * theta[name]
        expected = left * np.linalg.norm(g[name]) / np.linalg.norm(left) if rescaled else left
        np.testing.assert_allclose(found[name], expected, rtol=1e-12)
        assert abs(np.sum(np.asarray(found[name]) * theta[name])) < 1e-12


@pytest.mark.parametrize("norm", [None, 2.5])
def test_the_sphere(norm: float | None) -> None:
    theta, g = pieces()
    start = np.sqrt(sum(np.sum(part**2) for part in theta.values()))
    with precision_context("float64"):
        rule = optax.chain(optax.sgd(0.3), interventions.on_sphere(norm))
        own = rule.init(theta)
        moved = theta
        for _ in range(2):
            step, own = rule.update(g, own, moved)
            plain = {name: moved[name] - 0.3 * g[name] for name in theta}
            length = np.sqrt(sum(np.sum(np.asarray(part) ** 2) for part in plain.values()))
            moved = optax.apply_updates(moved, step)
            for name in theta:
                np.testing.assert_allclose(moved[name], plain[name] * (norm or start) / length, rtol=1e-12)


def test_inverse_participation() -> None:
    p = 97
    waves = np.cos(2 * np.pi * np.outer([3, 11], np.arange(p)) / p)
    rows = np.concatenate([waves, GENERATOR.standard_normal((3, p)), [[*[1.0], *[0.0] * (p - 1)]]])
    spectrum = np.abs(np.fft.rfft(rows, axis=1))
    expected = (np.sum(spectrum**4, axis=1) ** 0.25 / np.sum(spectrum**2, axis=1) ** 0.5) ** 4
    with precision_context("float64"):
        found = np.asarray(measures.inverse_participation(rows))
        np.testing.assert_allclose(found, expected, rtol=1e-12)
        np.testing.assert_allclose(found[:2], 1.0)
        np.testing.assert_allclose(found[-1], 1.0 / 49.0)
        three = {"left": rows.T, "right": rows[::-1].T, "readout": rows.T}
        mean = (2 * expected + expected[::-1]) / 3.0
        np.testing.assert_allclose(measures.neuron_participation(three), mean, rtol=1e-12)


def test_alignment_and_difficulty() -> None:
    features, y = GENERATOR.standard_normal((9, 20)), GENERATOR.standard_normal(9)
    kernel, many = features @ features.T, GENERATOR.standard_normal((9, 4))
    center = np.eye(9) - 1.0 / 9.0
    with precision_context("float64"):
        plain = y @ kernel @ y / (np.linalg.norm(kernel) * (y @ y))
        np.testing.assert_allclose(measures.alignment(kernel, y), plain, rtol=1e-12)
        k, c = center @ kernel @ center, center @ y
        expected = c @ k @ c / (np.linalg.norm(k) * (c @ c))
        np.testing.assert_allclose(measures.alignment(kernel, y, centred=True), expected, rtol=1e-12)
        target = many @ many.T
        expected = np.sum(kernel * target) / (np.linalg.norm(kernel) * np.linalg.norm(target))
        np.testing.assert_allclose(measures.alignment(kernel, many), expected, rtol=1e-12)
        np.testing.assert_allclose(measures.alignment(target, many), 1.0)
    np.testing.assert_allclose(measures.task_difficulty(kernel, y), y @ np.linalg.inv(kernel) @ y / 9.0)


def test_small_measures() -> None:
    theta, g = pieces()
    with precision_context("float64"):
        norm = np.sqrt(np.sum(theta["a"] ** 2) + np.sum(theta["b"] ** 2))
        np.testing.assert_allclose(measures.weight_norm(theta), norm)
        np.testing.assert_allclose(measures.movement({k: 3.0 * v for k, v in theta.items()}, theta), 2.0)
        cosine = measures.descent_cosine(theta, g)["a"]
        product = -np.sum(theta["a"] * g["a"]) / (np.linalg.norm(theta["a"]) * np.linalg.norm(g["a"]))
        np.testing.assert_allclose(cosine, product)
        two = np.sort(LOGITS, axis=1)[:, -2:]
        np.testing.assert_allclose(measures.logit_gap(LOGITS), np.mean(two[:, 1] - two[:, 0]), rtol=1e-6)
    weights, update = np.array([1.0, 1.0, 1.0, 1.0], np.float32), np.array([1e-9, 1e-3, 0.0, 2e-9], np.float32)
    assert float(measures.absorbed(weights, update)) == 0.5


def test_tangent_kernels_and_regression() -> None:
    """Of a linear network they are known: K = x.x' for each output, and regression is least squares of least norm."""

    def function(w: Any, x: Any) -> Any:
        return x @ w

    x, x_test, w = (GENERATOR.standard_normal(size) for size in ((5, 8), (3, 8), (8, 2)))
    y = GENERATOR.standard_normal((5, 2))
    with precision_context("float64"):
        full = measures.tangent_kernel(function, w, x, x_test)
        np.testing.assert_allclose(full, np.kron(x @ x_test.T, np.eye(2)), atol=1e-12)
        np.testing.assert_allclose(measures.trace_kernel(function, w, x, 2), x @ x.T, rtol=1e-10, atol=1e-12)
        arrays = tasks.Arrays(x, y, x_test, np.zeros((3, 2)), np.zeros(5, bool))
        found = measures.kernel_regression(function, w, arrays, y)
        with pytest.raises(ParameterError, match="must have at most 3000 samples of 2 outputs"):
            measures.tangent_kernel(function, w, np.zeros((3001, 8)), x)
    np.testing.assert_allclose(found, x_test @ np.linalg.pinv(x) @ y, rtol=1e-8)


def test_batchnorm_takes_the_training_set() -> None:
    h = GENERATOR.standard_normal((9, 4))
    with precision_context("float64"):
        found = modules.normalized(h, 6)
    np.testing.assert_allclose(found, (h - h[:6].mean(axis=0)) / np.sqrt(h[:6].var(axis=0) + 1e-5), rtol=1e-12)


def test_a_transformer_reads_the_place_of_the_last_token() -> None:
    """Against attention at all places, head by head, in NumPy."""
    task = tasks.modular("add", 5, train_fraction=0.5)
    recipe = networks.transformer(8, heads=2, hidden=6, layernorm=True)
    with precision_context("float64"):
        start = measures.initial(recipe, task)
        x = start.arrays.x[:4]
        found = np.asarray(start.program(start.parameters, x))
    p = start.parameters

    def norm(h: np.ndarray) -> np.ndarray:
        h = h - h.mean(axis=-1, keepdims=True)
        return h / np.sqrt((h**2).mean(axis=-1, keepdims=True) + 1e-5)

    for tokens, expected in zip(x, found, strict=True):
        stream = p["embedding"][[*tokens, 5]] + p["positions"]
        seen, mixed = norm(stream), np.zeros((3, 8))
        for head in range(2):
            part = slice(4 * head, 4 * head + 4)
            q, k, v = (seen @ p[name][part].T for name in ("query", "key", "value"))
            scores = np.where(np.tril(np.ones((3, 3))) > 0, q @ k.T / 2.0, -np.inf)
            weights = np.exp(scores - scores.max(axis=1, keepdims=True))
            mixed[:, part] = weights / weights.sum(axis=1, keepdims=True) @ v
        stream = stream + mixed @ p["output"].T
        hidden = np.maximum(norm(stream) @ p["up_weight"].T + p["up_bias"], 0.0)
        stream = stream + hidden @ p["down_weight"].T + p["down_bias"]
        np.testing.assert_allclose(expected, norm(stream)[-1] @ p["readout"].T, rtol=1e-10)
