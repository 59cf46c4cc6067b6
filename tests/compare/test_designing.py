"""What a design finds on closed forms, and what its promise is worth in simulation."""

import math

import numpy as np
import pytest

from compare import design, designing
from compare.designing import Design, Search, _improved, _spread_out, _steps_to, schedule_grid
from compare.fitting.theory import Prediction
from dmft import Model, ParameterError, RunError
from dmft.twotime.request import Request

MODEL = Model(alpha=1.0, epsilon=0.5, kappa=3.0, initial_overlap=0.2)


class Closed:
    """Test loss 1/kappa + (log weight_decay + 3)^2/10, known to 1 %."""

    def __init__(self, *_):
        pass

    def predict(self, model, times):
        log = math.log(1 / model.kappa + (math.log(model.weight_decay or 0.05) + 3) ** 2 / 10)
        return Prediction(*(np.full((1, len(times)), value) for value in (log, 0.01, 0.0)))


@pytest.fixture
def search(monkeypatch):
    monkeypatch.setattr(designing, "Solved", Closed)
    return lambda name, bounds: Search(MODEL.replace(weight_decay=math.exp(-3)), name, Request(t_max=4.0), bounds)


def test_the_smallest_kappa_is_found_with_its_error(search):
    found = search("kappa", (0.5, 32.0)).reach(0.125)
    assert found.value == pytest.approx(8.0, rel=0.01)
    assert found.error == pytest.approx(0.01 * 8.0, rel=0.05)  # the loss falls like 1/kappa
    assert found.model.kappa == found.value


def test_a_target_beyond_reach_is_refused_with_the_best(search):
    with pytest.raises(RunError, match=r"for kappa from 0.5 to 4: at best 0.25, at 4"):
        search("kappa", (0.5, 4.0)).reach(0.125)


def test_a_schedule_is_spread_and_improved():
    np.testing.assert_allclose(_spread_out([1.0, 2.0], 4, 6), [1, 1, 2, 2, 2, 2])
    assert _steps_to(np.array([1.0, 0.5, 0.25]), 2**-1.5) == pytest.approx(1.5)
    assert _steps_to(np.array([1.0, 0.5]), 0.1) == math.inf
    grid = schedule_grid(np.array([0.1, 0.1, 0.3]))
    np.testing.assert_allclose(grid.times, [0, 0.1, 0.2, 0.5])
    np.testing.assert_allclose(grid.weights[:3], [0.1, 0.1, 0.3])

    def needed(sizes, _count):  # stable up to 1 and 2
        return math.inf if sizes[0] > 1 or sizes[1] > 2 else 10 / sizes[0] + 10 / sizes[1]

    sizes, count = _improved(needed, [0.3, 0.3], needed([0.3, 0.3], 0))
    np.testing.assert_allclose(sizes, [1.0, 2.0], rtol=0.08)
    assert count == needed(sizes, 0)


def test_a_promise_holds_within_its_errors():
    about = {"over": "kappa", "value": 3.0, "error": 0.1, "model": MODEL, "test_loss": 0.2, "test_loss_error": 0.002,
             "steps": (), "tried": (), "simulated_error": 0.003, "dim": 200}  # fmt: skip
    assert Design(**about, simulated=0.209).holds
    assert not Design(**about, simulated=0.215).holds


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"over": "dim"}, "Argument `over` must be one of kappa, weight_decay, steps, schedule, but is 'dim'."),
        ({"target": None}, "Argument `target` must be a number > 0 with over='kappa', but is None."),
        ({"over": "schedule"}, "Argument `step` must be given with over='schedule', but is None."),
        ({"bounds": (2.0, 1.0)}, "Argument `bounds` must be (least, largest), but is (2.0, 1.0)."),
        ({"pieces": 0}, "Argument `pieces` must be an integer >= 1"),
    ],
)
def test_what_cannot_be_designed_is_refused(settings, message):
    with pytest.raises(ParameterError) as error:
        design(MODEL, **({"target": 0.2, "t_max": 4.0} | settings))
    assert message in str(error.value)


@pytest.mark.slow
def test_the_smallest_kappa_keeps_its_promise():
    found = design(MODEL.replace(dim=200), 0.25, "kappa", t_max=6.0, bounds=(1.5, 8.0), check=20)
    print(found.value, found.error, found.test_loss, found.simulated, found.simulated_error, found.z)
    assert found.error < 0.05 * found.value
    assert found.test_loss == pytest.approx(0.25, rel=0.02)
    assert found.simulated_error < 0.03 * 0.25
    assert found.holds


@pytest.mark.slow
def test_the_best_weight_decay_is_no_worse_than_its_neighbours():
    model = MODEL.replace(label_noise=0.5, kappa=2.0)
    found = design(model, None, "weight_decay", t_max=10.0, bounds=(1e-3, 0.5), rtol=0.02, check=0)
    losses = dict(found.tried)
    print(found.value, found.error, found.test_loss)
    assert found.test_loss <= min(losses.values()) * (1 + 1e-6)
    assert 1e-3 < found.value < 0.5


@pytest.mark.slow
def test_a_schedule_is_quicker_than_constant_steps_and_keeps_its_promise():
    model = MODEL.replace(dim=400, kappa=5.5)
    constant = design(model, 0.1, "schedule", t_max=20.0, step=0.1, pieces=1, rtol=0.02, check=0)
    found = design(model, 0.1, "schedule", t_max=20.0, step=0.1, pieces=3, rtol=0.02, check=8)
    print(constant.value, constant.steps[:1], found.value, found.steps, found.test_loss, found.simulated, found.z)
    assert found.value <= constant.value < 0.5 * 20.0 / 0.1
    assert found.holds
