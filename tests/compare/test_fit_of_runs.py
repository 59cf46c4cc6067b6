"""Fits with the solver itself: planted parameters, single simulations at D = 200, a direction that no curve knows."""

import dataclasses
import time

import numpy as np
import pytest
from scipy import stats
from scipy.interpolate import RectBivariateSpline

from compare import FitWarning, fit
from compare.fitting.curves import read_curves
from compare.fitting.fit import check_bounds, fitted
from compare.fitting.least_squares import Problem
from compare.fitting.theory import Prediction, Solved
from dmft import Model, solve
from sim import simulate

pytestmark = pytest.mark.slow

TRUTH = Model(alpha=1.0, epsilon=0.5, kappa=3.0, initial_overlap=0.2)


def test_planted_parameters_are_recovered_from_theory_curves():
    theory = solve(TRUTH.replace(alpha=1.3, epsilon=0.4), 5.0, rtol=0.005, seed=3)
    curves = theory.isel(time=slice(None, None, 6))[["train_loss", "test_loss"]]
    start = time.perf_counter()
    found = fit(curves, TRUTH, free=("alpha", "epsilon"), rtol=0.02, starts=2, intervals=False)
    print(f"fit in {time.perf_counter() - start:.0f} s: {found.values} +- {found.errors}")
    assert found.values["alpha"] == pytest.approx(1.3, rel=0.01)
    assert found.values["epsilon"] == pytest.approx(0.4, rel=0.01)
    assert found.converged
    assert found.unidentified == ""


def test_a_linear_network_does_not_tell_its_alpha():
    theory = solve(Model(alpha=1.0, epsilon=0.0, kappa=2.0), 4.0, rtol=0.01, seed=3)
    curves = theory.isel(time=slice(None, None, 6))[["train_loss", "test_loss"]]
    with pytest.warns(FitWarning, match="not identifiable: alpha"):
        found = fit(curves, Model(alpha=2.0, epsilon=0.0, kappa=3.0), free=("alpha", "kappa"), rtol=0.02, starts=1)
    assert found.unidentified == "not identifiable: alpha"
    assert found.values["kappa"] == pytest.approx(2.0, rel=0.01)


class Tabulated:
    """The solver's log losses on a grid of log alpha and log epsilon about a model, and splines between."""

    names = ("train_loss", "test_loss")
    free = ("alpha", "epsilon")

    def __init__(self, model, times, dim):
        solved = Solved(self.names, None, 0.01, 0)
        self.axis, (a, e) = np.linspace(-0.3, 0.3, 4), (np.log(model.alpha), np.log(model.epsilon))
        middle = solved.predict(model, times)
        self.error = middle.error
        self.drawn = solved.deviations(model.replace(dim=dim), times)
        table = [
            [solved.predict(model.replace(alpha=np.exp(a + x), epsilon=np.exp(e + y)), times).log for y in self.axis]
            for x in self.axis
        ]
        table = np.array(table)  # (4, 4, C, T)
        self.center = a, e
        self.splines = [
            [RectBivariateSpline(self.axis, self.axis, table[:, :, c, t]) for t in range(table.shape[3])]
            for c in range(table.shape[2])
        ]

    def _at(self, model, dx=0, dy=0):
        x, y = np.log(model.alpha) - self.center[0], np.log(model.epsilon) - self.center[1]
        return np.array([[one.ev(x, y, dx, dy) for one in row] for row in self.splines])

    def predict(self, model, times):  # noqa: ARG002
        log = self._at(model)
        return Prediction(log, self.error, np.zeros_like(log))

    def derivatives(self, model, times, wrt):  # noqa: ARG002
        return np.stack([self._at(model, *{"alpha": (1, 0), "epsilon": (0, 1)}[name]) for name in wrt], axis=-1)

    def deviations(self, model, times):  # noqa: ARG002
        return self.drawn


def test_single_simulations_are_covered():
    """Sixty runs at D = 200, each fitted alone: errors of 68 and 95 % contain the truth as often as they say."""
    times, model = np.geomspace(0.1, 4.0, 20), TRUTH.replace(dim=200)
    runs = simulate(model, 4.0, seeds=60, times=times, precision="float32", progress=False)
    theory = Tabulated(TRUTH, times, 200)
    scores, p_values = [], []
    for seed in range(60):
        measured = read_curves(
            runs.isel(seed=seed)[["train_loss", "test_loss"]].drop_attrs(),
            time=None, train="train_loss", test="test_loss", loss="mean", steps=False,
        )  # fmt: skip
        ends = {name: (0.75 * getattr(model, name), 1.34 * getattr(model, name)) for name in theory.free}
        bounds = check_bounds(ends, theory.free, model)
        problem = Problem(theory, model, theory.free, measured, lambda _: 1.0, bounds)
        found = fitted(problem, 1, 0, False)
        scores.append(
            [np.log(found.values[n] / getattr(model, n)) / (found.errors[n] / found.values[n]) for n in theory.free]
        )
        p_values.append(found.p_value)
    scores = np.array(scores)
    for place, name in enumerate(theory.free):
        hits = [int((np.abs(scores[:, place]) < width).sum()) for width in (1.0, 1.96)]
        print(name, "mean score", scores[:, place].mean(), "scatter", scores[:, place].std(), "hits", hits)
        for count, level in zip(hits, (0.683, 0.95), strict=True):
            assert stats.binomtest(count, 60, level).pvalue > 0.01
    print("p values", np.quantile(p_values, [0.1, 0.5, 0.9]))
    assert dataclasses.is_dataclass(found)


def test_the_early_scatter_of_a_small_run_does_not_decide():
    """The train loss of this run begins 15 % low. Searched with equal weights it gave 1.86(3) and 0.93(3)."""
    truth = Model(alpha=1.0, epsilon=0.5, kappa=3.0, dim=60, initial_overlap=0.1)
    run = simulate(truth, 4.0, seeds=1, times=np.linspace(0.0, 4.0, 38), progress=False)
    curves = {"time": run["time"].to_numpy()} | {name: run[name].to_numpy()[0] for name in ("train_loss", "test_loss")}
    assert curves["train_loss"][0] == pytest.approx(0.426, abs=0.01)
    found = fit(curves, truth, rtol=0.05, intervals=False)
    for name, value in found.values.items():
        assert abs(value - getattr(truth, name)) < 3 * found.errors[name] < 0.2 * value
    assert found.p_value is not None
    assert found.p_value > 0.2
