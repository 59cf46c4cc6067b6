"""The committee engine against exact results and identities (THEORY section 8)."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dmft import Committee, ParameterError, solve
from dmft.checks import MemoryLimitError, precision_context
from dmft.committee import rows, sampling
from dmft.committee.engine import CommitteeEngine
from dmft.committee.network import OVERSHOOT, smoothed
from dmft.committee.replica import Responses, Sampling, Solution, responses_of
from dmft.limits.regression import ridge
from dmft.models.activations import Activation
from dmft.twotime.engine import Iteration
from dmft.twotime.grid import Grid, explicit_grid, graded_times, implicit_grid
from dmft.twotime.loop import solve_one, solve_rows
from dmft.twotime.momentum import momentum_of

pytestmark = pytest.mark.filterwarnings("ignore::dmft.twotime.prediction.ToleranceWarning")

LINEAR = Committee(
    alpha=1.3,
    kappa=3.0,
    width=1,
    activation="linear",
    teacher="linear",
    label_noise=0.4,
    weight_decay=0.2,
    initial_teacher_overlap=[[0.3]],
)
PAIR = Committee(
    alpha=2.0,
    kappa=3.0,
    width=2,
    activation="tanh",
    readout=[1.0, -0.5],
    teacher="erf",
    teacher_dim=2,
    initial_teacher_overlap=[[0.5, 0.1], [0.0, -0.3]],
    label_noise=0.1,
)
#: Over which kinks are smoothed where they are.
WIDTH = 0.15


def one_replica(model: Committee, grid: Grid, samples: int, *, index: int = 0) -> Solution:
    modes = model.width * (grid.size + 1)
    drawn = Sampling(samples, modes, None if grid.explicit else WIDTH, "float64")
    with precision_context("float64"):
        seed = np.random.SeedSequence(3, spawn_key=(index,))
        return solve_one(CommitteeEngine(model), grid, drawn, seed, Iteration())


def responses(model: Committee, grid: Grid, solution: Solution) -> Responses:
    return responses_of(model, grid, solution, WIDTH, Iteration())


def norms(solution: Solution) -> np.ndarray:
    return np.einsum("titi->ti", solution.correlation)


def test_linear_neuron_is_ridge_regression_step_by_step() -> None:
    grid = explicit_grid(0.4, 4.0)
    solution = one_replica(LINEAR, grid, 256)
    exact = ridge(
        3.0,
        grid.times,
        alpha=1.3,
        initial_norm=1.0,
        initial_alignment=0.3,
        label_noise=0.4,
        weight_decay=0.2,
        step=0.4,
    )
    np.testing.assert_allclose(solution.train_loss, exact["train_loss"], atol=1e-10)
    np.testing.assert_allclose(solution.target_overlap[:, 0, 0] ** 2, exact["overlap"], atol=1e-10)
    np.testing.assert_allclose(norms(solution)[:, 0], exact["trace"], atol=1e-10)


@pytest.mark.parametrize(
    "rule", [{"momentum": 0.6}, {"momentum": 0.6, "nesterov": True, "schedule": "cosine"}], ids=["heavy", "nesterov"]
)
def test_linear_neuron_with_momentum(rule: dict) -> None:
    momentum = momentum_of(*({"momentum": 0.0, "nesterov": False, "schedule": "constant"} | rule).values(), 0.4, 4.0)
    solution = one_replica(LINEAR, explicit_grid(0.4, 4.0, momentum), 256)
    settings = {"alpha": 1.3, "initial_alignment": 0.3, "label_noise": 0.4, "weight_decay": 0.2, "step": 0.4}
    exact = ridge(3.0, 0.4 * np.arange(11), **settings, **rule)
    np.testing.assert_allclose(solution.train_loss, exact["train_loss"], atol=1e-9)
    np.testing.assert_allclose(solution.target_overlap[:, 0, 0] ** 2, exact["overlap"], atol=1e-9)
    np.testing.assert_allclose(norms(solution)[:, 0], exact["trace"], atol=1e-9)


@pytest.mark.slow
def test_centred_linear_neuron_learns_from_zero() -> None:
    model = LINEAR.replace(centered=True, weight_decay=0.0, label_noise=0.3)
    dataset = solve(model, 3.0, step=0.3, sample_count=256, replicas=4)
    exact = ridge(3.0, dataset["time"].values, alpha=1.3, initial_norm=0.0, label_noise=0.3, step=0.3)
    for name in ("train_loss", "test_loss"):
        np.testing.assert_allclose(dataset[name], exact[name], atol=1e-5)


@pytest.mark.slow
def test_flow_of_a_linear_neuron_converges_to_ridge_at_third_order() -> None:
    errors = []
    for points in (9, 15):
        grid = implicit_grid(graded_times(4.0, points))
        solution = one_replica(LINEAR, grid, 256)
        exact = ridge(
            3.0, grid.times, alpha=1.3, initial_norm=1.0, initial_alignment=0.3, label_noise=0.4, weight_decay=0.2
        )
        errors.append(np.abs(solution.train_loss - exact["train_loss"]).max())
    assert errors[1] < 5e-3
    assert 2.0 < np.log(errors[0] / errors[1]) / np.log(15 / 9) < 4.0


def test_linear_pair_correlations_in_both_forms() -> None:
    """For linear neurons every average is exact: C by Stein's identity is R C(0) R^T + R Gamma R^T to rounding."""
    model = PAIR.replace(activation="linear", teacher="linear", weight_decay=0.1)
    grid = explicit_grid(0.4, 3.2)
    solution = one_replica(model, grid, 256)
    np.testing.assert_allclose(solution.correlation, propagated(model, grid, solution), atol=1e-10)
    np.testing.assert_allclose(responses(model, grid, solution).stein, 0.0, atol=1e-10)


@pytest.mark.parametrize(
    "grid",
    [
        pytest.param(explicit_grid(0.4, 3.2), id="steps"),
        pytest.param(implicit_grid(graded_times(3.2, 9)), id="flow", marks=pytest.mark.slow),
    ],
)
def test_the_reaction_by_the_basis_is_that_by_the_responses(grid: Grid) -> None:
    """Equation 8.4: k R g = noise e / sqrt(kappa), to rounding for linear neurons, whose responses are exact."""
    model = PAIR.replace(activation="linear", teacher="linear", weight_decay=0.1)
    engine, drawn = (
        CommitteeEngine(model),
        Sampling(256, 2 * (grid.size + 1), None if grid.explicit else WIDTH, "float64"),
    )
    with precision_context("float64"):
        state = solve_rows(engine, grid, drawn, np.random.SeedSequence(3, spawn_key=(0,)), Iteration(tolerance=1e-12))
        solution = engine.read(state, grid)
    size, basis = grid.size, np.asarray(state.basis)
    noise, factor = np.asarray(state.kernels.noise)[:size], np.asarray(state.factor)[:size]
    force = factor @ basis  # (T, N, S)
    shift, response = int(grid.explicit), responses(model, grid, solution).response
    by_slot = np.zeros_like(force)
    by_slot[shift:] = grid.weights[shift:, None, None] * force[: size - shift]
    reaction = np.einsum("ticj,cjs->tis", response, by_slot) / (model.alpha * model.kappa)
    np.testing.assert_allclose(noise @ basis / np.sqrt(model.kappa), reaction, atol=1e-8)


def propagated(model: Committee, grid: Grid, solution: Solution) -> np.ndarray:
    """m m^T + R_0 (C(0) - m m^T) R_0^T + (1/(alpha^2 kappa)) R h Gamma h R^T: the correlation that responses imply."""
    m, c = model.initial_overlaps
    count, width, _ = solution.target_overlap.shape
    response = responses(model, grid, solution).response.reshape(count * width, count, width)
    start = response[:, 0] @ (c - m @ m.T) @ response[:, 0].T
    later = response[:, 1:].reshape(count * width, -1)
    factor = solution.factor.reshape(count, width, -1)
    acting = (factor[:-1] if grid.explicit else factor[1:]).reshape((count - 1) * width, -1)
    weights = np.repeat(grid.weights[1:], width)
    noise = (later * weights) @ acting @ acting.T @ (later * weights).T
    overlap = solution.target_overlap.reshape(count * width, -1)
    total = overlap @ overlap.T + start + noise / (model.alpha**2 * model.kappa)
    return total.reshape(count, width, count, width)


@pytest.mark.slow
@pytest.mark.parametrize(
    "grid",
    [explicit_grid(0.4, 2.4), implicit_grid(graded_times(2.4, 8))],
    ids=["steps", "flow"],
)
def test_two_forms_of_the_correlation_and_stein_in_u(grid: Grid) -> None:
    """Both differences vanish on average over independent replicas."""
    solutions = [one_replica(PAIR, grid, 2048, index=index) for index in range(12)]
    twice = [np.einsum("titj->tij", one.correlation - propagated(PAIR, grid, one)) for one in solutions]
    for difference in (np.array(twice), np.array([responses(PAIR, grid, one).stein for one in solutions])):
        stderr = difference.std(axis=0, ddof=1) / np.sqrt(len(solutions))
        z = difference.mean(axis=0)[stderr > 1e-12] / stderr[stderr > 1e-12]
        assert z.size > 10
        assert np.abs(z).max() < 5.5  # t with 11 degrees of freedom, some 30 correlated entries; their bias is O(1/S)
        assert np.abs(difference.mean(axis=0)).max() < 0.02


def test_relu_needs_its_delta(monkeypatch: pytest.MonkeyPatch, compiled_anew: Callable[[], None]) -> None:
    """E[dg/du] = E[g u] holds with the kink's delta function in phi'', and fails without it."""
    model = PAIR.replace(activation="relu", teacher="half_square", initial_teacher_overlap=[[0.6, 0.0], [0.0, 0.6]])
    grid = explicit_grid(0.5, 1.5)
    solution = one_replica(model, grid, 4096)
    complete = responses(model, grid, solution)

    def dropped(activation: Activation, h: jax.Array, width: jax.Array) -> tuple:
        value, slope, curvature = smoothed(activation, h, width)
        return value, slope, jnp.zeros_like(curvature)

    monkeypatch.setattr(rows, "smoothed", dropped)
    compiled_anew()  # what was compiled has the delta in it
    without = responses(model, grid, solution)
    assert np.abs(complete.stein).max() < 0.015
    assert np.abs(without.stein).max() > 0.06


@pytest.mark.slow
def test_neurons_that_start_equal_stay_one_neuron() -> None:
    single = Committee(alpha=1.0, kappa=3.0, width=1, activation="tanh", initial_teacher_overlap=[[0.4]])
    double = single.replace(width=2, initial_teacher_overlap=[[0.4]] * 2, initial_self_overlap=np.ones((2, 2)))
    grid = explicit_grid(0.5, 3.0)
    one, two = one_replica(single, grid, 4096), one_replica(double, grid, 4096)
    np.testing.assert_allclose(norms(two)[:, 0], norms(two)[:, 1], atol=1e-9)
    np.testing.assert_allclose(two.correlation[:, 0, :, 1], two.correlation[:, 0, :, 0], atol=1e-9)
    np.testing.assert_allclose(norms(two)[:, 0], norms(one)[:, 0], atol=0.01)
    np.testing.assert_allclose(two.target_overlap[:, 0], one.target_overlap[:, 0], atol=0.01)


@pytest.mark.slow
def test_all_samples_present_is_full_batch() -> None:
    grid = explicit_grid(0.5, 2.0)
    full = one_replica(PAIR, grid, 128)
    batches = one_replica(PAIR.replace(batch_fraction=1.0, persistence=2.0), grid, 128)
    np.testing.assert_array_equal(full.train_loss, batches.train_loss)
    np.testing.assert_array_equal(full.correlation, batches.correlation)
    fewer = one_replica(PAIR.replace(batch_fraction=0.5), grid, 128)
    assert np.abs(fewer.train_loss[1:] - full.train_loss[1:]).max() > 1e-3


def test_presence_has_its_share_and_its_memory() -> None:
    assert (sampling.draw_presence(64, 3, 1.0, 0.2, np.random.SeedSequence(1)) == 1).all()
    for switch in (None, 0.1):
        present = sampling.draw_presence(4096, 60, 0.3, switch, np.random.SeedSequence(1)) > 0
        np.testing.assert_allclose(present.mean(axis=1), 0.3, atol=0.002)
        both = (present[1:] & present[:-1]).mean()
        # stays with probability 1 - switch (1 - b)/b
        stays = 0.3 if switch is None else 1 - 0.1 * 0.7 / 0.3
        assert abs(both / 0.3 - stays) < 0.01


@pytest.mark.parametrize("directions", [1, 2, 3, 5])
def test_samples_have_gaussian_moments(directions: int) -> None:
    drawn = sampling.draw_samples(512, directions, 20, np.random.SeedSequence(2), np.float32)
    weight, u, modes = (np.asarray(x, np.float64) for x in (drawn.weight, drawn.u, drawn.modes))
    assert weight.min() > 0
    assert abs(weight.sum() - 1) < 1e-5
    np.testing.assert_allclose((u * weight) @ u.T, np.eye(directions), atol=1e-4)
    np.testing.assert_allclose((modes * weight) @ modes.T, np.eye(20), atol=1e-4)
    np.testing.assert_allclose((modes * weight) @ u.T, 0.0, atol=1e-4)
    assert abs(weight @ (u[0] ** 4) - 3) < (1e-3 if directions < 4 else 0.3)


def test_smoothed_kink_is_consistent() -> None:
    """phi_w' and phi_w'' are derivatives; no moment of the step that matters is off at first order in the width."""
    phi = Committee(alpha=1.0, kappa=1.0, width=1, activation="relu").phi
    h, width = np.linspace(-3, 3, 20001), 0.2
    with precision_context("float64"):
        value, slope, curvature = (np.asarray(part) for part in smoothed(phi, h, width))
    step, dh = h > 0, h[1] - h[0]
    np.testing.assert_allclose(np.gradient(value, dh)[1:-1], slope[1:-1], atol=1e-4)
    np.testing.assert_allclose(np.gradient(slope, dh)[1:-1], curvature[1:-1], atol=1e-3)
    assert abs((value - np.maximum(h, 0)).sum() * dh - (0.5 - OVERSHOOT) * width**2) < 1e-6
    assert abs((slope - step).sum() * dh) < 2 * dh
    assert abs((slope**2 - step).sum() * dh) < 2 * dh  # the noise Gamma
    assert abs(curvature.sum() * dh - 1) < 1e-6


def test_refusals() -> None:
    with pytest.raises(ParameterError, match=r"`step` must be given where batch_fraction = 0\.3"):
        solve(PAIR.replace(batch_fraction=0.3), 1.0)
    with pytest.raises(ParameterError, match=r"`step` must be at most batch_fraction x persistence = 0\.3"):
        solve(PAIR.replace(batch_fraction=0.3, persistence=1.0), 1.0, step=0.5)
    with pytest.raises(ParameterError, match="`sample_count` must be an integer >= 128"):
        solve(PAIR, 1.0, step=0.5, sample_count=64)
    with pytest.raises(ParameterError, match=r"`model` must be a dmft\.Model or a dmft\.Committee"):
        solve("committee", 1.0)  # pyright: ignore[reportArgumentType]
    wide = Committee(alpha=1.0, kappa=3.0, width=16, activation="erf")
    with pytest.raises(MemoryLimitError, match=r"901 time points and \d+ samples needs about .* GiB"):
        solve(wide, 900.0, step=1.0)
