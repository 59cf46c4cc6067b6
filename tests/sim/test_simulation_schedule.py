"""When the network is observed, how large its steps are, and what too large a step says."""

import re

import numpy as np
import pytest

from dmft.checks import DivergenceError, ParameterError
from dmft.losses.quadratic import OBSERVABLES
from dmft.models.model import Model
from sim import simulate
from sim.request import Request
from sim.systems.draws import draw_replica
from sim.systems.forms import quadratic_system
from sim.systems.quadratic import curvature
from sim.training import driver
from sim.training import groups as training
from sim.training.descent import Layout
from sim.training.schedule import CAPACITY, chunks, observed_steps

MODEL = Model(alpha=1.0, epsilon=0.5, kappa=3.0, dim=20)
#: Cases whose fastest rate comes from different places: features, teacher, few samples, decay, one neuron, the plant.
STIFF = {
    "plain": MODEL,
    "rich": MODEL.replace(alpha=0.25, dim=40),
    "richer": MODEL.replace(alpha=0.1, epsilon=1.0),
    "few": MODEL.replace(alpha=0.5, kappa=0.25, dim=40),
    "decay": MODEL.replace(epsilon=0.0, weight_decay=6.0),
    "neuron": MODEL.replace(width=1, epsilon=1.0),
    "planted": MODEL.replace(initial_overlap=4.0, epsilon=1.0),
    "lazy": MODEL.replace(alpha=50.0, centered=True),
}


def test_every_step_is_reported_of_a_short_run() -> None:
    result = simulate(MODEL, 1.04, seeds=1, step=0.1)
    np.testing.assert_array_equal(result.time, np.arange(11) * 0.1)
    assert result.attrs["step"] == 0.1
    assert simulate(MODEL, 0.01, seeds=1, step=0.1).sizes["time"] == 2


def test_without_a_step_the_run_ends_at_t_max_exactly() -> None:
    for t_max in (0.7, np.pi, 11.3):
        result = simulate(MODEL, t_max, seeds=1)
        assert float(result.time[0]) == 0.0
        assert float(result.time[-1]) == t_max
        assert np.all(np.diff(result.time) > 0.0)
        assert result.attrs["step"] == "flow"


def test_times_asked_for_are_the_times_reported() -> None:
    result = simulate(MODEL, 2.0, seeds=1, step=0.1, times=[0.31, 0.98, 1.7])
    np.testing.assert_allclose(result.time, [0.3, 1.0, 1.7])
    with pytest.raises(ParameterError, match=r"`times` must lie .* but 0\.98 and 0\.99 are both nearest to t = 1:"):
        simulate(MODEL, 2.0, seeds=1, step=0.1, times=[0.31, 0.98, 0.99, 1.7])
    everything = simulate(MODEL, 2.0, seeds=1, step=0.1)
    for name in OBSERVABLES:
        np.testing.assert_allclose(result[name], everything[name][:, [3, 10, 17]], rtol=1e-12)


@pytest.mark.parametrize("alpha", [0.3, 1.0, 5.0])
def test_thinned_times_interpolate_to_better_than_a_third_of_a_per_cent(alpha: float) -> None:
    model, step, count = MODEL.replace(alpha=alpha, dim=30), 0.01, 20_000
    thinned = simulate(model, step * count, seeds=1, step=step)
    full = simulate(model, step * count, seeds=1, step=step, times=step * np.arange(count + 1))
    assert full.sizes["time"] == count + 1
    assert thinned.sizes["time"] < 2000
    assert {0.0, step * count} <= set(thinned.time.values)
    for name in ("train_loss", "test_loss", "trace", "overlap"):
        guess = np.interp(full.time, thinned.time, thinned[name][0])
        floor = 1e-9 * float(full[name][0, 0])
        assert np.max(np.abs(guess - full[name][0]) / (full[name][0] + floor)) < 3e-3, name


@pytest.mark.parametrize("name", STIFF)
def test_divergence_names_a_step_that_is_stable(name: str) -> None:
    model = STIFF[name]
    with pytest.raises(DivergenceError) as caught:
        simulate(model, 400.0, seeds=2, step=20.0 / curvature(model, draw_replica(model, 0, 0)))
    message = str(caught.value)
    assert "\n" not in message
    assert "`step`" in message
    assert re.search(r"diverged by t = [\d.]+", message)
    advised = float(message.split("stable one is step = ")[1].rstrip("."))
    result = simulate(model, 400 * advised, seeds=2, step=advised)
    assert float(result.train_loss[:, -1].max()) < float(result.train_loss[:, 0].max())


def test_divergence_time_is_when_the_loss_ran_away() -> None:
    with pytest.raises(DivergenceError, match=r"diverged by t = ") as caught:
        simulate(MODEL, 1e6, seeds=1, step=4.0)
    time = float(str(caught.value).split("by t = ")[1].split()[0])
    assert 4.0 <= time < 100.0


@pytest.mark.parametrize("budget", [1, 3, 50, 10**6])
@pytest.mark.parametrize("count", [1, 100, 5000])
def test_chunks_cover_every_step_once(count: int, budget: int) -> None:
    wanted = observed_steps(count, 0.1, None)
    pieces = list(chunks(wanted, count, budget))
    marks = np.concatenate([piece.marks for piece in pieces])
    lengths = np.concatenate([piece.lengths for piece in pieces])
    np.testing.assert_array_equal(marks, np.concatenate([[0], np.cumsum(lengths)[:-1]]))
    assert marks[-1] == count
    assert lengths[-1] == 0
    assert np.all(lengths[:-1] > 0)
    assert set(wanted) <= set(marks)
    assert all(piece.marks.size <= CAPACITY and piece.lengths.sum() <= budget for piece in pieces)


def test_results_do_not_depend_on_how_the_run_is_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = simulate(MODEL, 5.0, seeds=3, step=0.1, times=[0.0, 2.0, 5.0])
    monkeypatch.setattr(training, "OPERATIONS_CPU", 1.0)
    monkeypatch.setattr(driver, "available_memory", lambda: 1e5)
    request = Request(t_max=5.0, seeds=3, step=0.1)
    assert driver.group_size(quadratic_system(MODEL, "reduced"), request, Layout(False, 1)) < 3
    pieces = simulate(MODEL, 5.0, seeds=3, step=0.1, times=[0.0, 2.0, 5.0])
    for name in OBSERVABLES:
        np.testing.assert_allclose(pieces[name], whole[name], rtol=1e-12)


@pytest.mark.parametrize(
    "times",
    [[], 3.0, [[0.0, 1.0]], [0.0, 0.0], [1.0, 0.5], [-0.1, 1.0], [0.0, 2.1], [0.0, np.nan], ["a"], [0.0, np.inf]],
    ids=str,
)
def test_bad_times_are_refused_by_name(times: object) -> None:
    with pytest.raises(ParameterError, match=r"Argument `times` must be a one-dimensional, strictly increasing"):
        simulate(MODEL, 2.0, step=0.1, times=times)
