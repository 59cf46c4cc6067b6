"""The theory against simulations of finite dimension: fixed reference numbers, fresh runs extrapolated in 1/D, and
deliberately wrong theories, which the same checks must reject.
"""

import functools
import json
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from compare.extrapolation import line
from dmft import Model, solve
from dmft.wide import fields
from dmft.wide import row as samples
from sim import Optimizer, simulate

NAMES = ("train_loss", "test_loss", "trace", "overlap", "mean_weight_norm")
OVERLAPS = ("overlap_1", "overlap_2")
MODEL = Model(alpha=1.0, epsilon=0.5, kappa=3.0, initial_overlap=0.1)
STEP = 0.2

# Means and standard errors of the reduced simulation by D and time, one pair for each of NAMES.  Planted: explicit step
# 0.2, 200, 80 and 40 runs at D = 100, 200 and 400.  Random initialisation: step 0.1, 200, 100 and 24 runs.
REFERENCE = json.loads((Path(__file__).parent / "reference" / "finite_dimension.json").read_text())
SIZES = (100, 200, 400)
PLANTED, RANDOM = (
    {int(dim): {float(time): row for time, row in rows.items()} for dim, rows in REFERENCE[start].items()}
    for start in ("planted", "random")
)


#: How the relative deviation falls with D.  From random initialisation the train loss falls between 1/D and D^-1/2.
PLANTED_POWER, RANDOM_POWER = 1.0, 0.5


def beyond_allowance(theories, runs, power, names=NAMES):
    """z of simulation / theory - 1 - c/D^power at the largest D, c fitted at the two smaller, (times, names)."""
    dims = np.array(sorted(runs), dtype=float)
    ratio, error = np.empty((2, len(dims), len(runs[dims[0]]), len(names)))
    for k, dim in enumerate(dims):
        for i, (time, row) in enumerate(runs[dim].items()):
            at = theories[dim].sel(time=time, method="nearest")
            assert abs(float(at.time) - time) < 1e-9
            for j, (name, (mean, scatter)) in enumerate(zip(names, row, strict=True)):
                value, own = float(at[name]), float(at[f"{name}_stderr"])
                ratio[k, i, j] = mean / value - 1
                error[k, i, j] = np.hypot(scatter, own * mean / value) / value
    scale = (dims**power)[:, None, None]
    weight = 1 / (scale * error)[:2] ** 2
    c, c_error = (weight * (scale * ratio)[:2]).sum(axis=0) / weight.sum(axis=0), weight.sum(axis=0) ** -0.5
    return (ratio[2] - c / scale[2]) / np.hypot(error[2], c_error / scale[2])


def limit_of(count):
    """What |z| may reach in `count` comparisons, at 1 %."""
    return stats.norm.ppf(1 - 0.01 / 2 / count)


def z_scores(theory, table, names=NAMES):
    """Difference over the combined standard error, (times, observables)."""
    scores = []
    for time, row in table.items():
        at = theory.sel(time=time, method="nearest")
        assert abs(float(at.time) - time) < 1e-9
        for name, (mean, error) in zip(names, row, strict=True):
            scores.append(abs(float(at[name]) - mean) / np.hypot(float(at[f"{name}_stderr"]), error))
    return np.array(scores).reshape(len(table), len(names))


def relative_stderr(theory, names=NAMES):
    return max(float((theory[f"{name}_stderr"] / theory[name]).max()) for name in names)


@functools.cache
def planted(samples, dim=400, seed=0):
    times = list(PLANTED[dim])
    return solve(MODEL.replace(dim=dim), 12.0, step=STEP, replicas=16, sample_count=samples, seed=seed, times=times)


@pytest.mark.slow
def test_theory_meets_the_planted_reference_at_every_time():
    theories = {dim: planted(256, dim) for dim in SIZES}
    assert relative_stderr(theories[400]) < 0.01
    scores = beyond_allowance(theories, PLANTED, power=PLANTED_POWER)
    assert np.abs(scores).max() < limit_of(scores.size), scores


@pytest.mark.slow
def test_twice_the_samples_change_nothing_beyond_the_errors():
    few, many = planted(256), planted(512, seed=1)
    quantile = stats.t.ppf(1 - 0.01 / 2 / (len(NAMES) * len(PLANTED[400])), 8)
    for name in NAMES:
        error = np.hypot(few[f"{name}_stderr"], many[f"{name}_stderr"])
        assert (np.abs(few[name] - many[name]) <= quantile * error).all(), name


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:Tolerance not reached")
def test_theory_meets_the_random_reference_at_every_time():
    model, times = MODEL.replace(initial_overlap=0.0), list(RANDOM[200])
    theories = {
        dim: solve(model.replace(dim=dim), 10.0, step=0.1, replicas=8, sample_count=256, times=times) for dim in SIZES
    }
    scores = beyond_allowance(theories, RANDOM, power=RANDOM_POWER)
    assert np.abs(scores).max() < limit_of(scores.size), scores


# Random initialisations, alpha 1, epsilon .25, kappa 5.5, explicit step 0.2, 20, 10 and 5 runs: test loss, overlap.
RANDOM_SIZES = {
    100: {20.0: ((0.3005, 0.0109), (1.265, 0.060)), 100.0: ((0.0809, 0.0052), (2.690, 0.051))},
    200: {20.0: ((0.3344, 0.0095), (1.046, 0.057)), 100.0: ((0.1000, 0.0066), (2.483, 0.060))},
    400: {20.0: ((0.4160, 0.0082), (0.633, 0.038)), 100.0: ((0.1594, 0.0094), (2.004, 0.064))},
}


@pytest.mark.slow
def test_random_initialisation_at_several_sizes():
    model, times = Model(alpha=1.0, epsilon=0.25, kappa=5.5), list(RANDOM_SIZES[100])
    theories = {dim: solve(model.replace(dim=dim), 100.0, rtol=0.03, atol=1e-3, times=times) for dim in SIZES}
    scores = beyond_allowance(theories, RANDOM_SIZES, power=RANDOM_POWER, names=("test_loss", "overlap"))
    assert np.abs(scores).max() < limit_of(scores.size), scores


# Means and standard errors of the overlap over 100, 60 and 24 runs, explicit step 0.1, while it is below 0.1.
ESCAPE = {
    200: {1.0: ((0.01937, 0.00047),), 2.0: ((0.04418, 0.00128),), 4.0: ((0.09153, 0.00256),)},
    400: {1.0: ((0.00998, 0.00027),), 2.0: ((0.02278, 0.00057),), 4.0: ((0.04939, 0.00123),)},
    800: {1.0: ((0.00490, 0.00022),), 2.0: ((0.01143, 0.00047),), 4.0: ((0.02586, 0.00096),)},
}


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:Tolerance not reached")
def test_escape_from_random_initialisation():
    """It takes longer the larger D is: from 1/D the overlap grows by the noise in the target coordinate."""
    model, times = MODEL.replace(initial_overlap=0.0), list(ESCAPE[200])
    theories = {
        dim: solve(model.replace(dim=dim), times[-1], step=0.1, sample_count=128, replicas=8, times=times)
        for dim in ESCAPE
    }
    for theory in theories.values():
        assert relative_stderr(theory, ("overlap",)) < 0.02
    # as it stands, without allowance: without the mean weight's part it is 14 % low at t = 1
    scores = np.stack([z_scores(theories[dim], ESCAPE[dim], ("overlap",)) for dim in ESCAPE])
    assert np.abs(scores).max() < limit_of(scores.size), scores


@pytest.mark.slow
def test_random_initialisation_of_two_directions():
    """Extrapolated in 1/D, each theory with the seed of its D; D = 100 is 16 to 30 % off, which is no straight line."""
    case = json.loads((Path(__file__).parent / "reference" / "directions.json").read_text())["two random"]
    model, times, names = Model.from_attributes(case["model"]), case["times"], (*NAMES[:3], NAMES[4], *OVERLAPS)
    sizes, scores = [dim for dim in map(int, case["rows"]) if dim > 100], {}
    about = {"step": case["step"], "times": times, "replicas": 8, "sample_count": 256}
    theories = [solve(model.replace(dim=dim), times[-1], **about) for dim in sizes]
    for name in names:
        simulated, scatter = np.array([case["rows"][str(dim)][name] for dim in sizes]).swapaxes(0, 1)
        theory, own = (np.stack([one[key].values for one in theories]) for key in (name, f"{name}_stderr"))
        ratio, error = simulated / theory, np.hypot(scatter, own * simulated / theory) / theory
        limits = [extrapolate(sizes, ratio[:, k], error[:, k]) for k in range(len(times))]
        scores[name] = [(limit - 1) / error for limit, error in limits]
        assert max(error for _, error in limits) < 0.07, name
    assert np.abs(list(scores.values())).max() < limit_of(len(names) * len(times)), scores
    at_400 = theories[sizes.index(400)]
    assert (at_400["overlap_1"][-1] > 2 * at_400["overlap_2"][-1]).item()  # the stronger is learnt first


# Finite-size scaling


def extrapolate(dims, means, errors):
    """Weighted straight-line fit of means against 1/D: value at 1/D = 0 and its standard error."""
    return line(1 / np.array(dims), np.array(means), np.array(errors))[:2]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("step", "rule"),
    [
        (STEP, {}),
        (0.1, {"momentum": 0.7}),
        (0.1, {"momentum": 0.7, "nesterov": True}),
        (0.3, {"schedule": "cosine"}),
    ],
    ids=["plain", "momentum", "nesterov", "cosine"],
)
def test_simulations_extrapolated_in_1_over_d_meet_the_theory(step, rule):
    times, sizes = [1.2, 2.4, 6.0], {100: 120, 200: 60, 400: 30}
    theory = solve(MODEL, 6.0, step=step, replicas=8, sample_count=256, times=times, **rule)
    name = "gd" if "momentum" not in rule else "nesterov" if "nesterov" in rule else "momentum"
    optimizer = Optimizer(name, **{key: value for key, value in rule.items() if key != "nesterov"})
    about = {"step": step, "times": times, "form": "reduced", "seed": 3, "precision": "float32", "optimizer": optimizer}
    runs = [simulate(MODEL.replace(dim=dim), 6.0, seeds=seeds, **about) for dim, seeds in sizes.items()]
    quantile = stats.norm.ppf(1 - 0.01 / 2 / (len(NAMES) * len(times)))
    for name in NAMES:
        for i in range(len(times)):
            means = [float(run[name][:, i].mean()) for run in runs]
            errors = [float(run[f"{name}_stderr"][i]) for run in runs]
            limit, error = extrapolate(list(sizes), means, errors)
            z = (float(theory[name][i]) - limit) / np.hypot(error, float(theory[f"{name}_stderr"][i]))
            assert abs(z) < quantile, (name, times[i], z)


# Wrong theories


def without_bath_feedback(monkeypatch):
    """Drop W, the feedback of the bath's own response, from the tangents."""

    def wrong(*arguments):
        right = right_slopes(*arguments)
        return right._replace(bath=jnp.zeros_like(right.bath))

    right_slopes = samples.slopes
    monkeypatch.setattr(samples, "slopes", wrong)


def outlier_responding_like_the_bulk(monkeypatch):
    """Drop q dDelta from the outlier's tangent, so that R_d = R_r up to the bath's distribution."""

    def wrong(*arguments):
        right, s = right_row(*arguments), arguments[-1]
        under_common = jnp.array([True, False])[:, None, None]
        own = right.outlier - s.y_d * right.residual
        return right._replace(
            residual=jnp.where(under_common, right.residual, 0.0),
            common=jnp.where(under_common, right.common, 0.0),
            outlier=jnp.where(under_common, right.outlier, own),
        )

    right_row = samples.tangent_row
    monkeypatch.setattr(samples, "tangent_row", wrong)


def noise_too_strong(monkeypatch):
    """zeta^p and zeta^q 10 % too large: a wrong prefactor of the noise."""

    def wrong(*arguments):
        return 1.1 * right_weights(*arguments)

    right_weights = fields.noise_weights
    monkeypatch.setattr(fields, "noise_weights", wrong)


def correct(_monkeypatch):
    """Nothing changed: what the check accepts."""


def planted_limit(times):
    """The planted reference extrapolated to D = infinity: value and standard error."""
    dims = sorted(PLANTED)
    return {
        time: [extrapolate(dims, *np.array([PLANTED[dim][time][j] for dim in dims]).T) for j in range(len(NAMES))]
        for time in times
    }


@pytest.mark.filterwarnings("ignore:Tolerance not reached")
@pytest.mark.parametrize(
    ("change", "accepted"),
    [
        (correct, True),
        pytest.param(without_bath_feedback, False, marks=pytest.mark.slow),
        pytest.param(outlier_responding_like_the_bulk, False, marks=pytest.mark.slow),
        pytest.param(noise_too_strong, False, marks=pytest.mark.slow),
    ],
)
@pytest.mark.usefixtures("compiled_anew")
def test_the_reference_rejects_a_wrong_theory(monkeypatch, change, accepted):
    change(monkeypatch)
    times = [2.4, 6.0]
    theory = solve(MODEL, 6.0, step=STEP, replicas=4, sample_count=128, times=times)
    scores = z_scores(theory, planted_limit(times))
    assert (scores.max() <= 3.0) == accepted, scores
