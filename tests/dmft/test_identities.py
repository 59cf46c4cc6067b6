"""Identities of the theory: two routes to one number, symmetry, causality, zero-mean control variates."""

import functools

import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from dmft import Model, solve
from dmft.checks import precision_context
from dmft.twotime.engine import Iteration
from dmft.twotime.grid import explicit_grid, graded_times, implicit_grid
from dmft.twotime.loop import solve_one
from dmft.wide import tangents
from dmft.wide.engine import Wide
from dmft.wide.replica import Sampling
from dmft.wide.solution import KERNELS

PLANTED = Model(alpha=1.0, epsilon=0.5, kappa=3.0, initial_overlap=0.1)
CASES = {
    "planted": PLANTED,
    "random": PLANTED.replace(initial_overlap=0.0, dim=200),
    "centered": PLANTED.replace(centered=True, label_noise=0.3, weight_decay=0.05),
    "two": PLANTED.replace(strengths=(1.0, 0.5), initial_overlap=(0.1, 0.0), dim=200),
    "alike": PLANTED.replace(strengths=(0.7, 0.7), centered=True),
}
GRIDS = {"descent": explicit_grid(0.2, 6.0), "flow": implicit_grid(graded_times(6.0, 30))}
#: All of both; several directions by the flow are slow.
EVERY = [
    pytest.param(case, scheme, marks=[pytest.mark.slow] if scheme == "flow" and CASES[case].directions > 1 else [])
    for case in CASES
    for scheme in GRIDS
]
REPLICAS = 16
#: What the inner iteration leaves is alike in all replicas: less than the least of their scatter.
ITERATION = Iteration(tolerance=1e-9)


@functools.cache
def runs(case, scheme):
    sampling = Sampling(128 if CASES[case].directions == 1 else 256, 31, "float64")
    with precision_context("float64"):
        return [
            solve_one(Wide(CASES[case]), GRIDS[scheme], sampling, np.random.SeedSequence(1, spawn_key=(i,)), ITERATION)
            for i in range(REPLICAS)
        ]


def of_each(kernels):
    """A kernel as one of several: those of the outlier have one for each of several directions."""
    return kernels.reshape(-1, *kernels.shape[-2:])


def largest_t(samples):
    """Largest |mean| / standard error over replicas (first axis) and its 1 % limit over all comparisons."""
    error = samples.std(axis=0, ddof=1) / np.sqrt(len(samples))
    known = error <= 1e-13 * np.abs(samples).max()
    np.testing.assert_allclose(samples.mean(axis=0)[known], 0.0, atol=1e-9)
    scores = np.abs(samples.mean(axis=0)[~known]) / error[~known]
    return scores.max(), stats.t.ppf(1 - 0.01 / 2 / scores.size, len(samples) - 1)


@pytest.mark.parametrize(("case", "scheme"), EVERY)
@pytest.mark.parametrize("name", ["trace", "mean_weight_norm", "variance_error", "misalignment_error", "test_loss"])
def test_both_forms_of_the_correlations_agree(case, scheme, name):
    differences = np.array([run.differential[name] - run.curves[name] for run in runs(case, scheme)])
    score, limit = largest_t(differences[:, 1:])
    assert score < limit
    # and the comparison is sharp: the two forms agree within a few per cent of the curve
    spread = differences.std(axis=0, ddof=1) / np.sqrt(REPLICAS)
    value = np.mean([run.curves[name] for run in runs(case, scheme)], axis=0)
    assert (spread < 0.04 * np.abs(value) + 4e-3).all()


@pytest.mark.parametrize(("case", "scheme"), EVERY)
@pytest.mark.parametrize("name", ["correlation_common", "correlation_outlier", "correlation_bulk"])
def test_both_forms_of_each_correlation_agree_at_all_pairs_of_times(case, scheme, name):
    differences = np.array([of_each(run.second[name] - run.kernels[name]) for run in runs(case, scheme)])
    spread = differences.std(axis=0, ddof=1) / np.sqrt(REPLICAS)
    limit = stats.t.ppf(1 - 0.01 / 2 / spread.size, REPLICAS - 1)
    left = 10 * ITERATION.tolerance * np.abs(runs(case, scheme)[0].kernels[name]).max()  # by the inner iteration
    assert (np.abs(differences.mean(axis=0)) < limit * spread + left).all()
    every = [np.diagonal(of_each(run.kernels[name]), axis1=1, axis2=2) for run in runs(case, scheme)]
    scale = np.sqrt(np.mean(every, axis=0))
    assert (spread < 0.04 * scale[:, :, None] * scale[:, None] + 4e-3).all()


@pytest.mark.parametrize(("case", "scheme"), EVERY)
def test_control_variates_have_zero_mean(case, scheme):
    controls = np.array([run.controls for run in runs(case, scheme)])
    for index in range(controls.shape[-1]):
        score, limit = largest_t(controls[:, 1:, index])
        assert score < limit, (index, score)


@pytest.mark.parametrize(("case", "scheme"), EVERY)
def test_correlations_are_symmetric_and_positive_and_responses_causal(case, scheme):
    for run in runs(case, scheme)[:3]:
        for name, kernel in [(name, kernel) for name, array in run.kernels.items() for kernel in of_each(array)]:
            assert np.isfinite(kernel).all()
            if name.startswith("correlation"):
                np.testing.assert_allclose(kernel, kernel.T, rtol=0, atol=1e-12 * np.abs(kernel).max())
                eigenvalues = np.linalg.eigvalsh(kernel)
                assert eigenvalues[0] > -1e-9 * eigenvalues[-1], name
            else:
                above = np.triu(kernel, 0 if scheme == "descent" else 1)
                assert not above.any(), name
                along = np.diagonal(kernel, -1 if scheme == "descent" else 0)
                np.testing.assert_allclose(along, 1.0, rtol=1e-12)


def test_inner_iterations_converge():
    for case in (name for name, model in CASES.items() if model.directions == 1):
        assert max(run.mismatch.max() for run in runs(case, "flow")) <= ITERATION.tolerance
        assert max(run.rounds.max() for run in runs(case, "flow")) < Iteration().max_rounds // 2


def mean_answers(model, grid, run):
    """K_c = E dg/dzeta^p, K_d = E d(q Delta)/dzeta^q and K_r = E[Delta H] of equation 4.7, from one matrix per sample.

    dp = H_c (dzeta^p - k int R_c (1 + epsilon p) dDelta) with H_c = (1 + e R_c Delta)^-1, and so on; together
    (1 + feedback) dDelta = alpha [(1 + epsilon p) H_c dzeta^p + epsilon q H_d dzeta^q].
    """
    h, one, eps = grid.weights, np.eye(grid.size), model.epsilon
    k, e = 1 / (model.alpha * model.kappa), eps / (model.alpha * model.kappa)
    directions = range(model.directions)
    p, delta = (array.T[:, :, None] for array in (run.samples.p, run.samples.residual))
    q = [run.samples.q[:, k].T[:, :, None] for k in directions]
    kinds = len(run.responses.outlier)
    outlier = [run.responses.outlier[min(k, kinds - 1)] for k in directions]
    f, past = 1 + eps * p, delta.transpose(0, 2, 1)
    responses = [run.responses.common, *outlier, run.responses.bulk]
    own = [np.linalg.inv(one + e * response * h * past) for response in responses]  # H_c, H_d, H
    by_p = own[0] @ (k * run.responses.common * h * f.transpose(0, 2, 1))
    by_q = [own[1 + k] @ (e * outlier[k] * h * q[k].transpose(0, 2, 1)) for k in directions]
    correlation = own[-1] @ run.kernels["correlation_bulk"] @ own[-1].transpose(0, 2, 1)
    by_v = e * own[-1] @ run.responses.bulk * correlation * h
    by_all = sum(q[k] * by_q[k] for k in directions)
    feedback = one + model.alpha * (f * by_p + eps * by_all + eps * by_v)
    by_c = np.linalg.solve(feedback, model.alpha * f * own[0])
    by_d = [np.linalg.solve(feedback, model.alpha * eps * q[k] * own[1 + k]) for k in range(kinds)]
    answers = (
        f * by_c + eps * delta * (own[0] - by_p @ by_c),
        *(q[k] * by_d[k] + delta * (own[1 + k] - by_q[k] @ by_d[k]) for k in range(kinds)),
        delta * own[-1],
    )
    return [np.tensordot(run.samples.weight, answer, axes=1) for answer in answers]


def response_to(model, grid, kernel):
    """R of d_t R = delta - K R - lambda R by the multistep rule."""
    response, decay = np.zeros((grid.size, grid.size)), model.weight_decay
    if not grid.explicit:
        response[0, 0] = 1.0
    for n in range(1, grid.size):
        if grid.explicit:
            h = grid.weights[n - 1]
            response[n] = (1 - h * decay) * response[n - 1] - h * kernel[n - 1] @ response
            response[n, n - 1] += 1
        else:
            h = grid.weights[n]
            response[n] = grid.history(response, n) - h * kernel[n, :n] @ response[:n]
            response[n, n] += 1
            response[n] /= 1 + h * (decay + kernel[n, n])
    return response


@pytest.mark.parametrize(("case", "scheme"), EVERY)
def test_responses_are_those_to_the_mean_answer_of_the_samples(case, scheme):
    """Equation 4.7 with K from whole matrices over time: no row, no tangent, no triangular solve of the engine."""
    every_response_is_that_of_the_samples(CASES[case], GRIDS[scheme], runs(case, scheme)[0])


def every_response_is_that_of_the_samples(model, grid, run):
    every = (run.responses.common, *run.responses.outlier, run.responses.bulk)
    for kernel, solved in zip(mean_answers(model, grid, run), every, strict=True):
        rate = (1.0 if solved is every[0] else model.epsilon) / model.alpha
        np.testing.assert_allclose(response_to(model, grid, rate * kernel), solved, atol=1e-5)


def without_memory(monkeypatch):
    """The directions beyond the first do not move the residuals."""
    monkeypatch.setattr(tangents, "memory", lambda further: 0.0 * further.answer[0])


def without_own_answer(monkeypatch):
    """A direction beyond the first answers to a force on it as the bulk does: q D is dropped."""
    monkeypatch.setattr(tangents, "own_changes", lambda local, further, *_: local.residual * further.answer)


def without_heads(monkeypatch):
    """A force on a direction beyond the first does not move the residuals."""
    monkeypatch.setattr(tangents, "heads", lambda further, sources: jnp.zeros((sources, *further.q.shape[1:])))


@pytest.mark.parametrize("change", [without_memory, without_own_answer, without_heads])
@pytest.mark.usefixtures("compiled_anew")
def test_the_mean_answer_rejects_wrong_terms_between_directions(monkeypatch, change):
    change(monkeypatch)
    model, grid = CASES["two"], explicit_grid(0.2, 2.0)
    with precision_context("float64"):
        run = solve_one(Wide(model), grid, Sampling(64, 31, "float64"), np.random.SeedSequence(1), ITERATION)
    with pytest.raises(AssertionError, match="Not equal to tolerance"):
        every_response_is_that_of_the_samples(model, grid, run)


@pytest.mark.filterwarnings("ignore:Tolerance not reached")
@pytest.mark.parametrize("settings", [{"step": 0.2}, pytest.param({"points": 30}, marks=pytest.mark.slow)])
def test_a_dataset_carries_kernels_and_the_iteration_s_state(settings):
    theory = solve(PLANTED, 2.0, sample_count=64, replicas=4, kernels=True, **settings)
    assert theory.attrs["iteration_mismatch"] <= theory.attrs["iteration_tolerance"]
    size = theory.sizes["time"]
    np.testing.assert_array_equal(theory.time2, theory.time)
    for name in KERNELS:
        kernel = theory[name].values
        assert theory[name].dims == ("time", "time2")
        assert kernel.shape == (size, size)
        assert (theory[f"{name}_stderr"].values >= 0).all()
        if name.startswith("correlation"):
            np.testing.assert_allclose(kernel, kernel.T, atol=1e-10)
            difference, stderr = (theory[f"{name}_consistency{ending}"].values for ending in ("", "_stderr"))
            limit = stats.t.ppf(1 - 0.01 / 2 / size**2, 3)
            assert (np.abs(difference) <= limit * stderr + 1e-9).all()
        else:
            assert not np.triu(kernel, 1).any()
    common, outlier, bulk = (np.diagonal(theory[f"correlation_{which}"]) for which in ("common", "outlier", "bulk"))
    # interpolated kernels against interpolated curves: equal on the grid, close in between
    np.testing.assert_allclose(common, theory.mean_weight_norm, atol=2e-4)
    np.testing.assert_allclose(common + outlier + bulk, theory.trace, rtol=0.01)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:Tolerance not reached")
def test_seeding_grows_the_target_coordinate_as_c_beta(monkeypatch):
    """D b^2 at D = 10^8 is C_beta, as computed independently for random initialisation, steps of 0.1."""
    monkeypatch.setattr("dmft.wide.replica.mean_weight_overlap", lambda _, grid, __: np.zeros((grid.size, 1)))
    expected = [1.65, 2.71, 4.24, 6.24, 8.62, 11.2, 13.9, 16.5, 19.0, 21.4]
    without_noise = [1.60, 2.47, 3.60, 4.98, 6.55, 8.20, 9.86, 11.5, 13.0, 14.4]
    times = [0.4 * (i + 1) for i in range(10)]
    model = Model(alpha=1.0, epsilon=0.5, kappa=3.0, dim=10**8)
    theory = solve(model, 4.0, step=0.1, sample_count=256, replicas=8, times=times)
    growth = 1e8 * theory.overlap.values
    assert (1e8 * theory.overlap_stderr.values < 0.01 * growth).all()
    np.testing.assert_allclose(growth, expected, rtol=0.03)
    assert growth[-1] > 1.4 * without_noise[-1]
