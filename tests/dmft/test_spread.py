"""The spread over data sets: data sets that are drawn have the law of real ones."""

import dataclasses
import math

import jax.numpy as jnp
import numpy as np
import pytest
import xarray

from compare import overlay, read_run
from dmft import Committee, ConvergenceError, Model, ParameterError, solve
from dmft.limits.spectrum import sample_spectrum
from dmft.solver import engine_for
from dmft.twotime.request import Request
from dmft.twotime.spread import Spread
from dmft.twotime.tolerance import add_replicas
from dmft.wide import spread as wide_spread

KAPPA, DIM, T_MAX = 3.0, 40, 6.0
LINEAR = Model(alpha=2.0, epsilon=0.0, kappa=KAPPA, dim=DIM)
BOTH = ("samples", "coordinates")


def silent(*_):
    """No report."""


def linear_data_sets(times, step, count):
    """Train loss and |mean weight|^2/D of linear networks on real data sets, (count, T) each: exact, by SVD.

    d Delta/dt = -(1/kappa) X X^T Delta with X of variance 1/D, Delta(0) = -y, and alpha c = what fits y. Here y = u^2/2
    with u independent of X: the part of c along beta is neglected, which is of order 1/D.
    """
    rng, train, norm = np.random.default_rng(5), [], []
    for _ in range(count):
        x = rng.standard_normal((round(KAPPA * DIM), DIM)) / np.sqrt(DIM)
        y = 0.5 * rng.standard_normal(len(x)) ** 2
        left, values, _ = np.linalg.svd(x)
        rate = np.zeros(len(y))
        rate[:DIM] = values**2 / KAPPA
        kept = np.exp(-np.outer(times, rate)) if step is None else (1 - step * rate) ** np.rint(times / step)[:, None]
        parts = left.T @ y
        train.append(np.mean((kept * parts) ** 2, axis=1))
        norm.append(np.sum(((1 - kept) * parts)[:, :DIM] ** 2 / values**2, axis=1) / LINEAR.alpha**2 / DIM)
    return np.array(train), np.array(norm)


@pytest.mark.slow
def test_the_overlap_has_the_mean_weights_own_part_and_its_scatter():
    """Of linear networks (c . beta)^2/D^2, a square of a normal, is all that the overlap has beside 1/D."""
    dim, times, rng, found = 100, np.array([0.6, 1.5, 3.0]), np.random.default_rng(3), []
    for _ in range(500):
        x = rng.standard_normal((round(KAPPA * dim), dim)) / np.sqrt(dim)
        left, values, right = np.linalg.svd(x, full_matrices=False)
        kept = (1 - 0.3 * values**2 / KAPPA) ** np.rint(times / 0.3)[:, None]
        along = ((1 - kept) * (left.T @ (0.5 * dim * x[:, 0] ** 2)) / values) @ right[:, 0]  # alpha c . beta/D^(1/2)
        found.append((along / LINEAR.alpha) ** 2 / dim)
    model = LINEAR.replace(dim=dim)
    theory = solve(model, 3.0, step=0.3, times=times, replicas=8, spread=16, rtol=0.1)
    square, error = np.mean(found, axis=0), np.std(found, axis=0, ddof=1) / np.sqrt(len(found))
    excess = theory.overlap.values - 1 / dim
    assert (np.abs(excess / square - 1) < 3 * error / square + 3 / dim).all(), excess / square
    np.testing.assert_allclose(theory.overlap_spread, np.sqrt(2) * excess, rtol=0.02)
    assert (3 * theory.mean_weight_norm.values / dim < excess).all()  # labels that are large weigh more along beta


def linear_variances(kappa, times, step):
    """D times the variance of train loss and of alpha^2 |mean weight|^2/D over data sets, D to infinity, (T,) each.

    Both are (1/P) sum_k f(s_k) (u_k.y)^2 over the P eigenvalues s_k of (1/kappa) X X^T, with f = r^2 and (1 - r)^2/s,
    r = (1 - s dt)^(t/dt). The u_k are isotropic, so (u_k.y)^2/|y|^2 follows a Dirichlet law of P parts 1/2, and the
    s_k scatter less, by 1/P. So P Var = Var(y^2) <f>^2 + 2 E[y^2]^2 (<f^2> - <f>^2), < > over the spectrum. Of
    y = u^2/2: E y^2 = 3/4, E y^4 = 105/16.
    """
    s, weights = sample_spectrum(kappa)
    r = (1 - step * s) ** np.rint(times / step)[:, None]
    filling = np.divide((1 - r) ** 2, s, out=np.zeros_like(r), where=s > 0)
    found = []
    for f in (r**2, filling):
        mean, square = f @ weights, f**2 @ weights
        found.append(((105 / 16 - 9 / 16) * mean**2 + 2 * 9 / 16 * (square - mean**2)) / kappa)
    return found


def test_the_closed_form_of_the_variance_is_that_of_real_data_sets():
    times, step = np.array([0.6, 1.5, 6.0]), 0.3
    closed = linear_variances(KAPPA, times, step)
    for scale, real, exact in zip((1.0, LINEAR.alpha**2), linear_data_sets(times, step, 500), closed, strict=True):
        one = Spread.of(scale * real)
        expected = np.sqrt(exact / DIM)
        assert (abs(one.value / expected - 1) < 3 * one.stderr / one.value + 1.5 / DIM).all(), one.value / expected


@pytest.mark.slow
def test_dim_times_the_variance_is_the_closed_form_at_every_dim(monkeypatch):
    """epsilon = 0, D = 100 to 800, 1000 data sets drawn at each, of 506 samples where there are more."""
    monkeypatch.setattr(wide_spread, "SAMPLES", 128)
    monkeypatch.setattr(wide_spread, "COORDINATES", 24)
    times, step, dims = np.array([0.6, 1.5, 3.0]), 0.3, (100, 200, 400, 800)
    closed, ratios = linear_variances(KAPPA, times, step), []
    for dim in dims:
        theory = solve(LINEAR.replace(dim=dim), 3.0, step=step, rtol=0.05, times=times, seed=dim, spread=1000)
        for name, exact in zip(("train_loss", "linear_power"), closed, strict=True):
            expected = np.sqrt(exact / dim)
            found, error = (theory[f"{name}_spread{end}"].to_numpy()[-len(times) :] for end in ("", "_stderr"))
            assert (abs(found - expected) < 4 * error).all(), (name, dim, found / expected, error / expected)
            ratios.append(found / expected)
    ratios = np.array(ratios).reshape(len(dims), 2, len(times))
    assert abs(ratios.mean(axis=0) - 1).max() < 0.05, ratios


def drawn(model, step, count, sources=BOTH, deadline=math.inf):
    """Curves of data sets drawn, and their times."""
    engine = engine_for(model)
    request = Request(t_max=T_MAX, step=step, points=None if step else 20, replicas=4, sample_count=64, rtol=0.05)
    plan = request.plan(engine, request.first_grid(engine), full=True)
    evidence = add_replicas(engine.evidence(plan, silent), silent)
    on = dataclasses.replace(evidence.on, deadline=deadline)
    return wide_spread.data_sets(on, evidence.replicas[0], count, sources, silent), evidence.grid.times


@pytest.mark.slow
@pytest.mark.parametrize("step", [None, 0.3])
def test_data_sets_drawn_have_the_law_of_real_ones(step):
    """epsilon = 0, where all is vectors and nothing is approximated: mean and spread at finite D."""
    curves, times = drawn(LINEAR, step, 200)
    for name, real in zip(("train_loss", "mean_weight_norm"), linear_data_sets(times, step, 2000), strict=True):
        for row in np.flatnonzero(times > 0.2)[::5]:
            a, b = curves[name][:, row], real[:, row]
            z_mean = (a.mean() - b.mean()) / np.hypot(a.std() / np.sqrt(len(a)), b.std() / np.sqrt(len(b)))
            one, other = (Spread.of(values[:, None]) for values in (a, b))
            z_spread = (one.value - other.value)[0] / np.hypot(one.stderr, other.stderr)[0]
            assert abs(z_mean) < 4, (name, times[row], a.mean(), b.mean())
            assert abs(z_spread) < 4, (name, times[row], one, other)


@pytest.mark.slow
def test_dropping_what_is_known_already_is_noticed(compiled_anew, monkeypatch):
    """Without the projection in equation 12.1 the spread of the train loss is another one."""
    from dmft.wide import dataset, dataset_rows

    def careless(c, state, force):
        new = dataset.new_mode(state, force)[..., None]
        feature = state.features + state.lengths[..., None] / c.kappa**0.5 * force.unit[:, None]
        return state._replace(
            bases=dataset.extended_bases(state.bases, force),
            features=jnp.where(new, feature, state.features),
        )

    right, times = drawn(LINEAR, 0.3, 200)
    compiled_anew()
    monkeypatch.setattr(dataset_rows, "reveal", careless)
    wrong, _ = drawn(LINEAR, 0.3, 200)
    real = linear_data_sets(times, 0.3, 2000)[0]
    row = int(np.argmin(abs(times - 3.0)))

    def z(values):
        one, other = Spread.of(values[:, row, None]), Spread.of(real[:, row, None])
        return abs(one.value - other.value)[0] / np.hypot(one.stderr, other.stderr)[0]

    means = [values["train_loss"][:, row].mean() for values in (right, wrong)]
    assert z(right["train_loss"]) < 4
    assert z(wrong["train_loss"]) > 4 or abs(means[0] - means[1]) > 0.05 * means[0]


def test_data_sets_are_drawn_after_the_time_for_the_curves():
    """A deadline that has passed is that of the curves."""
    curves, _ = drawn(LINEAR, 0.3, 8, deadline=0.0)
    assert len(curves["train_loss"]) == 8


def test_either_source_alone_scatters_less_than_both():
    both, _ = drawn(LINEAR, 0.3, 64)
    parts = [drawn(LINEAR, 0.3, 64, (source,))[0] for source in BOTH]
    last = [curves["mean_weight_norm"][:, -1].var() for curves in (both, *parts)]
    assert min(last) > 0
    assert max(last[1:]) < 1.6 * last[0]


MODEL = Model(alpha=1.0, epsilon=0.5, kappa=3.0, dim=30, initial_overlap=0.2)
QUICK = {"rtol": 0.3, "replicas": 4, "step": 0.2, "sample_count": 32}


def test_the_dataset_has_spreads_with_errors():
    theory = solve(MODEL, 2.0, spread=8, **QUICK)
    assert theory.attrs["spread_draws"] == 8
    assert theory.attrs["spread_samples"] == 90
    assert theory.attrs["spread_sources"] == "samples, coordinates"
    for name in ("train_loss", "test_loss", "trace", "overlap", "mean_weight_norm", "linear_power"):
        spread = theory[f"{name}_spread"].to_numpy()
        assert np.isfinite(spread).all()
        assert (spread[1:] > 0).all()
        assert (theory[f"{name}_spread_stderr"].to_numpy()[1:] < spread[1:]).all()
    assert (abs(theory["test_loss_overlap_correlation"]) <= 1 + 1e-12).all()
    larger = solve(MODEL.replace(dim=3000), 2.0, spread=8, **QUICK)
    ratio = theory["train_loss_spread"] / larger["train_loss_spread"]
    assert abs(float(ratio[-1]) / 10 - 1) < 0.7


def test_more_data_sets_are_larger_ones_as_well():
    """Their scatter is known better, and so must be what smaller data sets tell differently."""
    large = MODEL.replace(dim=10**4)
    sizes = [wide_spread.data_set_size(large, count) for count in (8, 64, 256, 1024)]
    assert sizes == [512, 512, 1024, 2048]
    assert wide_spread.data_set_size(MODEL.replace(kappa=20.0, dim=1000), 256) == 2 * 96 * 20
    assert wide_spread.data_set_size(MODEL, 256) == 90


def test_other_numbers_are_those_without_spread():
    with_spread, without = (solve(MODEL, 2.0, spread=spread, **QUICK) for spread in (8, False))
    for name in without.data_vars:
        np.testing.assert_array_equal(with_spread[name], without[name])


@pytest.mark.parametrize(
    ("model", "arguments", "words"),
    [
        (MODEL.replace(dim=None), {"spread": True}, ["`spread`", "`dim`", "None"]),
        (
            Committee(alpha=1.0, kappa=3.0, width=2, activation="erf", dim=30),
            {"spread": True},
            ["`spread`", "Committee"],
        ),
        (MODEL, {"spread": 3}, ["`spread`", ">= 8", "3"]),
        (MODEL, {"spread": np.array([8, 9])}, ["`spread`", "True, False or", "array"]),
        (MODEL, {"spread": None}, ["`spread`", "True, False or", "None"]),
        (MODEL, {"spread": []}, ["`spread`", "True, False or", "[]"]),
        (MODEL, {"spread": True, "sources": ("weights",)}, ["`sources`", "samples, coordinates", "weights"]),
        (MODEL, {"spread": True, "sources": ()}, ["`sources`", "()"]),
    ],
)
def test_refusals(model, arguments, words):
    with pytest.raises(ParameterError) as caught:
        solve(model, 1.0, **arguments)
    assert all(word in str(caught.value) for word in words), caught.value


def test_data_sets_that_are_not_solved_are_no_spread_and_lose_no_curves(monkeypatch):
    monkeypatch.setattr(wide_spread, "one_data_set", lambda *_: None)
    with pytest.raises(ConvergenceError, match="More than 10% of 8 data sets") as caught:
        solve(MODEL, 1.0, spread=8, times=[0.0, 0.7, 1.0], **QUICK)
    xarray.testing.assert_identical(caught.value.curves, solve(MODEL, 1.0, times=[0.0, 0.7, 1.0], **QUICK))


@pytest.mark.slow
def test_data_sets_are_solved_late():
    """A random start to t = 500 took more rounds than it had; the other takes shorter steps than the theory's."""
    random = Model(alpha=1.0, epsilon=0.25, kappa=3.0, dim=400)
    assert 0 < solve(random, 500.0, spread=8, rtol=0.05, atol=2e-3)["test_loss_spread"][-1] < 0.1
    rich = Model(alpha=0.5, epsilon=0.7, kappa=3.5, dim=56, initial_overlap=0.1, centered=True)
    times = [0.0, 10.0, 50.0, 165.0]
    coarse, fine = (solve(rich, 165.0, spread=16, rtol=rtol, atol=0.04 * rtol, times=times) for rtol in (0.05, 0.02))
    for name in ("test_loss", "trace", "overlap"):
        np.testing.assert_allclose(coarse[f"{name}_spread"], fine[f"{name}_spread"], rtol=0.15, err_msg=name)


def test_a_row_that_is_not_solved_ends_the_data_set(monkeypatch):
    """What follows from it is neither computed nor told (it overflowed, with warnings); nor are all others tried."""
    read, tried = wide_spread.read_draw, []

    def noted(model, grid, state, accepted):
        tried.append(np.asarray(state.mismatch)[: grid.size])
        return read(model, grid, state, accepted)

    monkeypatch.setattr(wide_spread, "read_draw", noted)
    monkeypatch.setattr(wide_spread, "ROUNDS", 1)
    with pytest.raises(ConvergenceError, match="More than 10% of 32 data sets"):
        solve(MODEL, 2.0, rtol=0.3, replicas=4, sample_count=32, spread=32)
    assert len(tried) < 16 * len(wide_spread.FINER)
    assert all(np.isinf(mismatch[2:]).all() for mismatch in tried)


def test_one_run_is_judged_by_the_spread():
    theory = solve(MODEL, 2.0, spread=16, **QUICK)
    run = {name: theory[name].to_numpy() for name in ("time", "train_loss", "test_loss")}
    one = {**run, "test_loss": run["test_loss"] + 0.5 * theory["test_loss_spread"].to_numpy()}
    far = {**run, "test_loss": run["test_loss"] + 50 * theory["test_loss_spread"].to_numpy()}
    for curves, verdict in ((one, "agrees"), (far, "differs")):
        tested = read_run(curves, test_samples=10**9)
        assert overlay(theory, tested).summary()["observables"]["test_loss"]["verdict"] == verdict
