"""`solve` of a committee: its dataset, its errors, and simulations extrapolated in 1/D (made by benchmarks/)."""

import json
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import xarray
from scipy import stats

from dmft import Committee, DivergenceError, Model, solve
from dmft.committee.state import Couplings

pytestmark = pytest.mark.filterwarnings("ignore::dmft.twotime.prediction.ToleranceWarning")
REFERENCE = Path(__file__).parents[1] / "reference"
NAMES = sorted(path.stem.removeprefix("committee_") for path in REFERENCE.glob("committee_*.json"))
ERF = Committee(
    alpha=2.0,
    kappa=3.0,
    width=2,
    activation="erf",
    readout=[1.0, -1.0],
    teacher="tanh",
    teacher_dim=2,
    initial_teacher_overlap=[[0.5, 0.0], [0.1, -0.4]],
)


def test_dataset_holds_overlaps_with_their_errors() -> None:
    dataset = solve(ERF, 2.0, step=0.5, sample_count=256, replicas=4, kernels=True)
    assert dataset["teacher_overlap"].dims == ("time", "neuron", "direction")
    assert dataset["self_overlap_stderr"].dims == ("time", "neuron", "neuron2")
    np.testing.assert_allclose(dataset["teacher_overlap"][0], ERF.initial_overlaps.teacher, atol=1e-12)
    np.testing.assert_allclose(dataset["self_overlap"][0], np.eye(2), atol=1e-9)
    assert (dataset["train_loss_error"] >= dataset["train_loss_stderr"]).all()
    assert Committee.from_attributes(dataset.attrs) == ERF
    kernel = dataset["correlation"].values
    np.testing.assert_allclose(kernel, kernel.transpose(2, 3, 0, 1), atol=1e-12)
    response = dataset["response"].values
    np.testing.assert_allclose(response[1, :, 0], np.eye(2), atol=1e-12)  # a force at step 0 enters w(1)
    assert not response[0].any()
    again = solve(ERF, 2.0, step=0.5, sample_count=256, replicas=4, seed=dataset.attrs["seed"])
    np.testing.assert_array_equal(again["train_loss"], dataset["train_loss"])


@pytest.mark.slow
def test_flow_is_the_limit_of_small_steps() -> None:
    """Steps h and h/2 extrapolated to h = 0 agree with the implicit grid within the errors of both."""
    model, times = ERF.replace(centered=True, train_readout=True, weight_decay=0.1), [0.5, 1.0]
    flow = solve(model, 1.0, rtol=0.02, sample_count=1024, replicas=6, times=times)
    coarse, fine = (solve(model, 1.0, step=h, sample_count=1024, replicas=6, times=times) for h in (0.125, 0.0625))
    for name in ("train_loss", "test_loss", "teacher_overlap", "self_overlap", "readouts"):
        limit = 2 * fine[name] - coarse[name]
        left = 0.1 * np.abs(fine[name] - coarse[name])  # of second order in the step
        error = np.sqrt(flow[f"{name}_error"] ** 2 + 5 * fine[f"{name}_stderr"] ** 2 + left**2 + 1e-8)
        assert float(np.abs((flow[name] - limit) / error).max()) < 4.5, name


def test_random_weights_average_over_their_overlaps() -> None:
    model = ERF.replace(initial_teacher_overlap=None, dim=200)
    dataset = solve(model, 0.5, step=0.5, sample_count=256, replicas=16)
    start = dataset["teacher_overlap_stderr"][0].values
    np.testing.assert_allclose(start, np.sqrt(1 / 200 / 16), rtol=0.6)


@pytest.mark.slow
def test_divergence_says_when_and_which_step_is_stable() -> None:
    model = Committee(alpha=1.0, kappa=3.0, width=1, activation="half_square", initial_teacher_overlap=[[0.5]])
    with pytest.raises(DivergenceError, match=r"step = 4 diverges at t = .*; step = .* is stable up to") as caught:
        solve(model, 40.0, step=4.0, sample_count=256, replicas=4)
    assert caught.value.curves is None or caught.value.curves.attrs["complete"] == 0


def reference(name: str) -> tuple[Committee, float, list[float], dict]:
    """Model, step, times and observables (limit D -> infinity, its standard error) of a stored simulation."""
    stored = json.loads((REFERENCE / f"committee_{name}.json").read_text())
    own = {"teacher": two_directions} if stored["model"]["teacher"].startswith("function ") else {}
    model = Committee.from_attributes(stored["model"], **own)
    return model, stored["step"], stored["time"], stored["observables"]


def two_directions(u: jax.Array) -> jax.Array:
    return jnp.tanh(u[..., 0] + u[..., 1] ** 3 - 3.0 * u[..., 1])


def worst_p_value(dataset: xarray.Dataset, observables: dict) -> float:
    """The smallest two-sided p-value times the number of comparisons: all overlaps and losses at all times."""
    z = []
    for name, stored in observables.items():
        limit, stderr = np.array(stored["limit"]), np.array(stored["stderr"])
        rest = dataset[f"{name}_error"].values
        combined = np.hypot(rest, stderr)
        known = combined > 1e-7
        z.append(((dataset[name].values - limit) / np.where(known, combined, 1.0))[known])
    scores = np.concatenate(z)
    return float(scores.size * 2 * stats.norm.sf(np.abs(scores).max()))


def predict(name: str, samples: int, replicas: int = 8) -> float:
    model, step, time, observables = reference(name)
    dataset = solve(model, time[-1], step=step, sample_count=samples, replicas=replicas)
    np.testing.assert_allclose(dataset["time"], time)
    return worst_p_value(dataset, observables)


def test_phase_retrieval_agrees_with_simulation() -> None:
    assert predict("retrieval", 4096) > 0.01


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in NAMES if name != "retrieval"])
def test_agrees_with_simulation(name: str) -> None:
    assert predict(name, 8192) > 0.01


@pytest.mark.slow
@pytest.mark.usefixtures("compiled_anew")
def test_wrong_noise_is_rejected(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Couplings, "strength", property(lambda c: 1.05 / (c.alpha * jnp.sqrt(c.kappa))))
    assert predict("retrieval", 2048) < 0.01


@pytest.mark.slow
def test_wide_committees_approach_the_wide_engine() -> None:
    """N = 4, 8, 16, overlaps +m0 and -m0 on alternate neurons, orthonormal remainders: corrections of order 1/N."""
    start, step, t_max = 0.5**0.5, 0.4, 2.4
    wide = solve(Model(alpha=1.0, epsilon=0.5, kappa=3.0, initial_overlap=start**2), t_max, step=step, rtol=0.003)
    widths, distances = (4, 8, 16), []
    for width in widths:
        m = start * (-1.0) ** np.arange(width)[:, None]
        model = Committee(
            alpha=1.0,
            kappa=3.0,
            width=width,
            activation="quadratic",
            epsilon=0.5,
            initial_teacher_overlap=m,
            initial_self_overlap=np.eye(width) + m @ m.T,
        )
        dataset = solve(model, t_max, step=step, sample_count=4096, replicas=4)
        trace = np.trace(dataset["self_overlap"].values, axis1=1, axis2=2) / width
        curves = {"trace": trace, "train_loss": dataset["train_loss"], "test_loss": dataset["test_loss"]}
        distances.append([float(np.abs(curve - wide[name].values)[-1]) for name, curve in curves.items()])
    powers = np.polyfit(np.log(widths), np.log(distances), 1)[0]
    assert (powers > -1.3).all()
    assert (powers < -0.7).all()
