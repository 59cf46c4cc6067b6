"""Simulated committees against loops written independently in numpy, and against the network of the first model."""

import dataclasses
import functools
import math
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import xarray
from scipy import special

from dmft import Committee, DivergenceError, ParameterError
from dmft.models.model import Model
from sim import Optimizer, simulate
from sim.request import Request
from sim.systems import quadratic
from sim.systems.committee import committee_system
from sim.systems.draws import draw_committee
from sim.systems.forms import quadratic_system
from sim.training.batches import make_batches, replica_key
from sim.training.driver import run
from sim.training.optimizers import Pace
from sim.training.system import Presence

STEP, COUNT = 0.2, 8


def two_directions(u: Any) -> Any:
    return np.tanh(u[..., 0] + u[..., 1] ** 3 - 3.0 * u[..., 1])


BASE: dict[str, Any] = {"alpha": 1.3, "kappa": 3.0, "dim": 40}
RETRIEVAL = Committee(**BASE, width=1, activation="half_square", initial_teacher_overlap=[[0.5]])
RELU = Committee(
    **BASE, width=2, activation="relu", readout=[1.0, -0.7], teacher=two_directions, teacher_dim=2,
    weight_decay=0.1, label_noise=0.3, train_readout=True,
)  # fmt: skip
ERF = Committee(
    **BASE, width=3, activation="erf", teacher="erf", teacher_dim=3, initial_teacher_overlap=0.4 * np.eye(3) + 0.1,
    initial_self_overlap=np.eye(3) + 0.2,
)  # fmt: skip
QUADRATIC = Committee(
    **BASE, width=2, activation="quadratic", epsilon=0.5, centered=True, initial_teacher_overlap=[[0.7], [-0.5]]
)
STOCHASTIC = RETRIEVAL.replace(batch_fraction=0.3, train_readout=True, weight_decay=0.1, label_noise=0.3)
FUNCTIONS = {
    "half_square": (lambda h: h**2 / 2, lambda h: h),
    "relu": (lambda h: np.maximum(h, 0.0), lambda h: (h > 0.0) * 1.0),
    "erf": (special.erf, lambda h: 2.0 / np.sqrt(np.pi) * np.exp(-(h**2))),
    "quadratic": (lambda h: h + h**2 / 4, lambda h: 1.0 + h / 2),
}


@functools.cache
def trained(model: Committee) -> xarray.Dataset:
    """Two seeds, every step. Runs of as many seeds share what is compiled."""
    return simulate(model, STEP * COUNT, step=STEP, seeds=2)


def by_hand(model: Committee, index: int, present: Any = None) -> np.ndarray:
    """Train loss, overlaps and readouts after every step of gradient descent; `present` (COUNT + 1, P) are flags."""
    phi, slope = FUNCTIONS[str(model.activation)]
    x, beta, y, w = draw_committee(model, 0, index)
    a, (width, dim), decay = model.readouts, w.shape, 1.0 - STEP * model.weight_decay
    start = model.alpha / width * a @ phi(w @ x.T) * model.centered
    found = []
    for n in range(COUNT + 1):
        h = w @ x.T
        error = model.alpha / width * a @ phi(h) - start - y
        found.append([np.mean(error**2), *(w @ beta.T / dim).flat, *(w @ w.T / dim).flat, *a])
        force = error if present is None else error * present[n] / model.batch_fraction
        w_next = decay * w - STEP / (model.alpha * model.kappa) * (a[:, None] * slope(h) * force) @ x
        if model.train_readout:
            a = decay * a - STEP / (model.alpha * y.size) * phi(h) @ force
        w = w_next
    return np.array(found)


def flat(dataset: xarray.Dataset, index: int, model: Committee) -> np.ndarray:
    """The same numbers of a simulated seed."""
    names = ["train_loss", "teacher_overlap", "self_overlap"] + ["readouts"] * model.train_readout
    parts = [dataset[name].to_numpy()[index].reshape(COUNT + 1, -1) for name in names]
    if not model.train_readout:
        parts.append(np.tile(model.readouts, (COUNT + 1, 1)))
    return np.concatenate(parts, axis=1)


@pytest.mark.parametrize("model", [RETRIEVAL, RELU, ERF, QUADRATIC], ids=lambda model: str(model.activation))
def test_training_is_that_of_a_plain_loop(model: Committee) -> None:
    result = trained(model)
    for index in (0, 1):
        np.testing.assert_allclose(flat(result, index, model), by_hand(model, index), rtol=1e-10, atol=1e-12)
    assert result.teacher_overlap.dims == ("seed", "time", "neuron", "direction")
    assert result.self_overlap.dims == ("seed", "time", "neuron", "neuron2")
    assert result.teacher_overlap_stderr.dims == ("time", "neuron", "direction")
    expected = result.self_overlap.std("seed", ddof=1) / math.sqrt(2)
    np.testing.assert_allclose(result.self_overlap_stderr, expected, rtol=1e-12)


def test_both_rates_are_gradient_descent() -> None:
    """Rates N D / alpha^2 for weights and N / alpha^2 for readouts on (1/2P) sum Delta^2, by autodiff."""
    model = RELU.replace(weight_decay=0.0)
    x, beta, y, w = draw_committee(model, 0, 0)

    def half_loss(w: Any, a: Any) -> Any:
        return 0.5 * jnp.mean((model.alpha / 2 * a @ jnp.maximum(w @ x.T, 0.0) - y) ** 2)

    for_w, for_a = jax.grad(half_loss, (0, 1))(w, model.readouts)
    speed = model.learning_rate_from_step(STEP) / 40
    after = trained(model).isel(seed=0, time=1)
    moved = w - speed * 40 * np.asarray(for_w)
    np.testing.assert_allclose(after.teacher_overlap, moved @ beta.T / 40, atol=2e-6)
    np.testing.assert_allclose(after.readouts, model.readouts - speed * np.asarray(for_a), atol=2e-6)


def test_a_quadratic_committee_is_the_network_of_the_first_model() -> None:
    """Both losses: there the test loss is that of THEORY section 2."""
    first = Model(alpha=1.3, epsilon=0.5, kappa=3.0, dim=40, width=2, centered=True)

    def draw(seed: int, index: int) -> Any:
        return quadratic.start(first, draw_committee(QUADRATIC, seed, index), "network")

    system = dataclasses.replace(quadratic_system(first, "network"), draw=draw)
    request = Request(t_max=STEP * COUNT, step=STEP, seeds=2)
    expected = run(system, request, {})
    result = trained(QUADRATIC)
    for name in ("train_loss", "test_loss"):
        np.testing.assert_allclose(result[name], expected[name], rtol=1e-9)
    np.testing.assert_allclose(result.self_overlap.to_numpy().trace(axis1=2, axis2=3) / 2, expected.trace, rtol=1e-10)


def test_initial_overlaps_are_exact_if_given_and_random_if_not() -> None:
    start = trained(ERF).isel(time=0)
    m, c = ERF.initial_overlaps
    np.testing.assert_allclose(start.teacher_overlap, np.broadcast_to(m, (2, 3, 3)), atol=1e-12)
    np.testing.assert_allclose(start.self_overlap, np.broadcast_to(c, (2, 3, 3)), atol=1e-12)
    seeds, dim = 200, 40
    random = ERF.replace(initial_teacher_overlap=None, initial_self_overlap=None)
    replicas = [draw_committee(random, 1, index) for index in range(seeds)]
    overlaps = np.array([replica.weights @ replica.directions.T / dim for replica in replicas])
    assert abs(overlaps.var() * dim - 1.0) < 4.0 * math.sqrt(2.0 / overlaps.size)
    frames = [replica.directions @ replica.directions.T / dim for replica in replicas[:5]]
    np.testing.assert_allclose(frames, np.broadcast_to(np.eye(3), (5, 3, 3)), atol=1e-12)


def test_draws_belong_to_the_seed_alone() -> None:
    result = trained(RETRIEVAL)
    rounded = simulate(RETRIEVAL, STEP * COUNT, step=STEP, seeds=2, precision="float32")
    np.testing.assert_allclose(rounded.train_loss, result.train_loss, rtol=1e-4)
    other = simulate(RETRIEVAL, STEP, step=STEP, seeds=2, seed=4).train_loss[:, 0].to_numpy()
    assert len({*other, *result.train_loss[:, 0].to_numpy()}) == 4


def drawn_presence(model: Committee, index: int, count: int, samples: int) -> np.ndarray:
    """Flags (count, P) of the steps, as the loop draws them."""
    equations = committee_system(RETRIEVAL, "auto").equations._replace(weigh=lambda _, weights: weights)
    key = jax.random.key_data(jax.random.fold_in(replica_key(0, index), 4))
    pace = Pace(*map(jnp.asarray, (STEP, 0.0, float(count))))
    presence = Presence(model.batch_fraction, model.persistence)
    memory, part, _ = make_batches(equations, Optimizer(), presence, samples, pace, key)

    def step(memory: Any, n: Any) -> Any:
        weights, memory = part(n, memory, jnp.zeros(samples))
        return memory, weights

    weights = np.asarray(jax.jit(lambda: jax.lax.scan(step, memory, jnp.arange(count)))()[1])
    assert set(np.round(np.unique(weights) * model.batch_fraction, 5)) == {0.0, 1.0}
    return weights > 0.0


@pytest.mark.parametrize("persistence", [None, 1.6])
def test_stochastic_descent_is_descent_on_the_samples_present(persistence: float | None) -> None:
    model = STOCHASTIC.replace(persistence=persistence)
    result = trained(model)
    flags = drawn_presence(model, 1, COUNT + 1, model.samples)
    np.testing.assert_allclose(flat(result, 1, model), by_hand(model, 1, flags), rtol=1e-9, atol=1e-10)
    sparse = simulate(model, STEP * COUNT, step=STEP, seeds=2, times=[0.6, STEP * COUNT])
    np.testing.assert_allclose(sparse.train_loss, result.train_loss[:, [3, COUNT]], rtol=1e-10)


def test_all_samples_present_is_full_batch() -> None:
    everyone = trained(RETRIEVAL.replace(batch_fraction=1.0, persistence=5.0))
    xarray.testing.assert_equal(everyone, trained(RETRIEVAL))


def test_presence_has_its_probabilities() -> None:
    """Present with probability b; an absent sample joins with dt/tau, a present one leaves with (1 - b) dt/(b tau)."""
    fraction, tau, count, samples = 0.3, 1.6, 60, 2000

    def score(events: np.ndarray, probability: float) -> float:
        return (events.mean() - probability) / math.sqrt(probability * (1.0 - probability) / events.size)

    for persistence in (None, tau):
        model = RETRIEVAL.replace(batch_fraction=fraction, persistence=persistence)
        flags = drawn_presence(model, 0, count, samples)
        before, after = flags[:-1].ravel(), flags[1:].ravel()
        joins = fraction if persistence is None else STEP / tau
        leaves = 1.0 - fraction if persistence is None else (1.0 - fraction) * STEP / (fraction * tau)
        assert abs(score(flags[0], fraction)) < 4.0
        assert abs(score(after[~before], joins)) < 4.0
        assert abs(score(~after[before], leaves)) < 4.0


@pytest.mark.parametrize(
    ("changes", "arguments", "message"),
    [
        ({"dim": None}, {}, "`dim` of the model must be an integer >= 2 to simulate"),
        ({}, {"form": "reduced"}, "`form` must be one of auto, network, but is 'reduced'"),
        ({"batch_fraction": 0.5}, {"step": None}, "`step` must be given where the model's `batch_fraction` is below 1"),
        ({"batch_fraction": 0.5, "persistence": 0.2}, {}, "`step` must be at most .* = 0.1, but is 0.2"),
        (
            {"batch_fraction": 0.5},
            {"optimizer": Optimizer(batch_size=5)},
            "`batch_size` must be None where the model's",
        ),
        ({}, {"optimizer": Optimizer(batch_size=500)}, "`batch_size` must be an integer between 1 and .* P = 120"),
        ({}, {"stop_below": {"self_overlap": 0.5}}, "`stop_below` must be one of train_loss, test_loss"),
    ],
)
def test_nonsense_is_refused_before_anything_runs(
    changes: dict[str, Any], arguments: dict[str, Any], message: str
) -> None:
    with pytest.raises(ParameterError, match=f"^Argument {message}"):
        simulate(RETRIEVAL.replace(**changes), 1.0, **{"step": STEP, **arguments})


def test_too_large_a_step_is_told_a_stable_one() -> None:
    with pytest.raises(DivergenceError, match=r"a stable one is step = ") as caught:
        simulate(QUADRATIC, 200.0, seeds=2, step=10.0)
    stable = float(str(caught.value).split("step = ")[-1].rstrip("."))
    assert simulate(QUADRATIC, 100.0 * stable, seeds=2, step=stable).attrs["complete"] == 1
    assert caught.value.curves.attrs["complete"] == 0
    assert "teacher_overlap" in caught.value.curves


def test_batches_of_fixed_size_serve_a_committee() -> None:
    whole = Optimizer(batch_size=RETRIEVAL.samples)
    result = simulate(RETRIEVAL, STEP * COUNT, step=STEP, seeds=2, optimizer=whole)
    np.testing.assert_allclose(result.train_loss, trained(RETRIEVAL).train_loss, rtol=1e-10)


def test_a_persistent_run_goes_on_from_its_checkpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = STOCHASTIC.replace(persistence=1.6)
    arguments: dict[str, Any] = {"step": STEP, "seeds": 2, "times": [1.0, 4.0]}
    expected = simulate(model, 4.0, **arguments)
    from sim.training import groups as training

    monkeypatch.setattr(training, "chunk_budget", lambda *_: 3)
    taken, run_piece = [0], training.run_piece

    def interrupted(*parts: Any) -> Any:
        taken[0] += 1
        if taken[0] == 5:
            raise KeyboardInterrupt
        return run_piece(*parts)

    file = tmp_path / "run.npz"
    monkeypatch.setattr(training, "run_piece", interrupted)
    with pytest.raises(KeyboardInterrupt):
        simulate(model, 4.0, checkpoint=file, checkpoint_every=0.0, **arguments)
    result = simulate(model, 4.0, checkpoint=file, **arguments)
    assert taken[0] < 5 + 7
    xarray.testing.assert_equal(result, expected)
    with pytest.raises(ParameterError, match=r"persistence = 1\.6 there, 2\.0 here"):
        simulate(model.replace(persistence=2.0), 4.0, checkpoint=file, **arguments)


def test_a_file_holds_all_that_is_needed_to_run_it_again(tmp_path: Path) -> None:
    result = simulate(ERF, STEP, step=STEP, seeds=2, seed=7)
    result.to_netcdf(tmp_path / "run.nc", engine="h5netcdf")
    with xarray.open_dataset(tmp_path / "run.nc", engine="h5netcdf") as read:
        attributes = read.attrs
        again = simulate(
            Committee.from_attributes(attributes),
            float(attributes["t_max"]),
            step=float(attributes["step"]),
            seeds=int(attributes["seeds"]),
            seed=int(attributes["seed"]),
        )
        xarray.testing.assert_equal(again, read)
