"""The spread over data sets: data sets that are drawn have the law of real ones."""

import numpy as np
import pytest

from dmft import Committee, ConvergenceError, Model, ParameterError, solve
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

    d Delta/dt = -(1/kappa) X X^T Delta with X of variance 1/D, Delta(0) = -y, y = u^2/2, and alpha c = what fits y.
    """
    rng, train, norm = np.random.default_rng(5), [], []
    for _ in range(count):
        x = rng.standard_normal((round(KAPPA * DIM), DIM)) / np.sqrt(DIM)
        y = 0.5 * x.sum(axis=1) ** 2
        left, values, _ = np.linalg.svd(x)
        rate = np.zeros(len(y))
        rate[:DIM] = values**2 / KAPPA
        kept = np.exp(-np.outer(times, rate)) if step is None else (1 - step * rate) ** np.rint(times / step)[:, None]
        parts = left.T @ y
        train.append(np.mean((kept * parts) ** 2, axis=1) * 1.0)
        norm.append(np.sum(((1 - kept) * parts)[:, :DIM] ** 2 / values**2, axis=1) / LINEAR.alpha**2 / DIM)
    return np.array(train), np.array(norm)


def drawn(model, step, count, sources=BOTH):
    """Curves of data sets drawn, and their times."""
    engine = engine_for(model)
    request = Request(t_max=T_MAX, step=step, points=None if step else 20, replicas=4, sample_count=64, rtol=0.05)
    plan = request.plan(engine, request.first_grid(engine), full=True)
    evidence = add_replicas(engine.evidence(plan, silent), silent)
    return wide_spread.data_sets(evidence.on, evidence.replicas[0], count, sources, silent), evidence.grid.times


@pytest.mark.parametrize("step", [None, 0.3])
def test_data_sets_drawn_have_the_law_of_real_ones(step):
    """epsilon = 0, where all is vectors and nothing is approximated: mean and spread at finite D, not only 1/D^(1/2)."""
    curves, times = drawn(LINEAR, step, 200)
    for name, real in zip(("train_loss", "mean_weight_norm"), linear_data_sets(times, step, 2000), strict=True):
        for row in np.flatnonzero(times > 0.2)[::5]:
            a, b = curves[name][:, row], real[:, row]
            z_mean = (a.mean() - b.mean()) / np.hypot(a.std() / np.sqrt(len(a)), b.std() / np.sqrt(len(b)))
            one, other = (Spread.of(values[:, None]) for values in (a, b))
            z_spread = (one.value - other.value)[0] / np.hypot(one.stderr, other.stderr)[0]
            assert abs(z_mean) < 4, (name, times[row], a.mean(), b.mean())
            assert abs(z_spread) < 4, (name, times[row], one, other)
