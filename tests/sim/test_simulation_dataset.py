"""What `simulate` accepts and returns: arguments, draws, precision, standard errors, attributes."""

import io
import sys

import jax
import numpy as np
import pytest

from dmft.checks import MemoryLimitError, ParameterError
from dmft.losses.quadratic import OBSERVABLES
from dmft.models.model import Model
from sim import simulate
from sim.systems.draws import draw_replica

MODEL = Model(alpha=1.0, epsilon=0.5, kappa=3.0, dim=20)


@pytest.mark.parametrize(
    ("name", "changes"),
    [
        ("t_max", {"t_max": 0.0}),
        ("t_max", {"t_max": float("inf")}),
        ("seeds", {"seeds": 0}),
        ("seeds", {"seeds": 2.5}),
        ("step", {"step": 0.0}),
        ("step", {"step": "small"}),
        ("form", {"form": "exact"}),
        ("form", {"form": "network"}),
        ("precision", {"precision": "float16"}),
        ("seed", {"seed": -1}),
        ("seed", {"seed": 2**63}),
        ("model", {"model": "model"}),
        ("dim", {"model": MODEL.replace(dim=None)}),
    ],
)
def test_bad_arguments_are_refused_by_name(name: str, changes: dict) -> None:
    arguments = {"model": MODEL, "t_max": 1.0} | changes
    with pytest.raises(ParameterError, match=f"^Argument `{name}`"):
        simulate(**arguments)


@pytest.mark.parametrize("step", [None, 0.1])
def test_too_large_a_model_is_refused_before_it_starts(step: float | None) -> None:
    with pytest.raises(MemoryLimitError, match=r"one seed with dim = 1000000, .* lower `dim`"):
        simulate(MODEL.replace(dim=10**6), 1.0, step=step)


def test_a_seed_does_not_depend_on_the_others() -> None:
    for model in (MODEL, MODEL.replace(width=5)):
        few, many = (simulate(model, 1.0, seeds=seeds) for seeds in (2, 5))
        assert few.attrs["step"] == many.attrs["step"]
        again = simulate(model, 1.0, seeds=2)
        for name in OBSERVABLES:
            np.testing.assert_array_equal(few[name], again[name])
            np.testing.assert_allclose(few[name], many[name][:2], rtol=1e-12)
        assert float(abs(many.train_loss[0, 0] - many.train_loss[1, 0])) > 1e-3
    other = simulate(MODEL, 1.0, seeds=2, seed=1)
    assert float(abs(other.train_loss - few.train_loss[:, : other.sizes["time"]]).max()) > 1e-3


def test_draws_have_the_scale_of_the_theory() -> None:
    model = MODEL.replace(dim=200, label_noise=0.5, width=100)
    draw = draw_replica(model, 0, 0)
    count = draw.inputs.size
    assert abs(np.sum(draw.inputs**2) - model.samples) / model.samples < 4.0 * np.sqrt(2.0 / count)
    np.testing.assert_allclose(draw.beta @ draw.beta, model.dim, rtol=1e-12)
    noise = draw.labels - 0.5 * (draw.inputs @ draw.beta) ** 2
    assert abs(np.mean(noise**2) / 0.25 - 1.0) < 4.0 * np.sqrt(2.0 / noise.size)
    assert abs(np.mean(draw.weights**2) - 1.0) < 4.0 * np.sqrt(2.0 / draw.weights.size)


def test_width_and_noise_leave_the_inputs_alone() -> None:
    one, other = (
        draw_replica(MODEL.replace(width=width, label_noise=noise), 3, 1) for width, noise in ((2, 0), (9, 1))
    )
    np.testing.assert_array_equal(one.inputs, other.inputs)
    np.testing.assert_array_equal(one.beta, other.beta)


def test_single_precision_follows_double_on_the_same_draws() -> None:
    model = MODEL.replace(width=50)
    for form in ("network", "reduced"):
        double, single = (
            simulate(model, 4.0, seeds=2, step=0.1, form=form, precision=precision)
            for precision in ("float64", "float32")
        )
        difference = max(float(abs(single[name] - double[name]).max() / double[name].max()) for name in OBSERVABLES)
        assert 1e-9 < difference < 1e-5
        assert single.train_loss.dtype == np.float64
        assert single.attrs["precision"] == "float32"


def test_global_precision_is_left_alone() -> None:
    before = jax.config.jax_enable_x64
    simulate(MODEL, 0.2, seeds=1, step=0.1)
    assert jax.config.jax_enable_x64 == before


def test_standard_errors_are_over_seeds() -> None:
    result = simulate(MODEL, 0.5, seeds=5, step=0.1)
    single = simulate(MODEL, 0.5, seeds=1, step=0.1)
    for name in OBSERVABLES:
        expected = result[name].values.std(axis=0, ddof=1) / np.sqrt(5)
        np.testing.assert_allclose(result[f"{name}_stderr"], expected, rtol=1e-12)
        assert result[f"{name}_stderr"].dims == ("time",)
        assert np.isnan(single[f"{name}_stderr"]).all()


def test_dataset_says_how_to_run_it_again(tmp_path) -> None:
    import xarray

    model = MODEL.replace(width=7, centered=True)
    result = simulate(model, 1.0, seeds=2, seed=3)
    assert result.train_loss.dims == ("seed", "time")
    np.testing.assert_array_equal(result.seed, [0, 1])
    result.to_netcdf(tmp_path / "simulation.nc", engine="h5netcdf")
    stored = xarray.load_dataset(tmp_path / "simulation.nc", engine="h5netcdf")
    assert stored.attrs["kind"] == "simulation"
    assert Model.from_attributes(stored.attrs) == model
    settings = {name: stored.attrs[name].item() for name in ("t_max", "seeds", "seed")}
    again = simulate(model, form=stored.attrs["form_requested"], precision=stored.attrs["precision"], **settings)
    for name in OBSERVABLES:
        np.testing.assert_array_equal(stored[name], again[name])


def test_linear_and_quadratic_parts_add_up() -> None:
    result = simulate(MODEL.replace(width=3), 2.0, seeds=2, step=0.1)
    parts = result.variance_error + result.misalignment_error + result.linear_power
    np.testing.assert_allclose(parts, result.test_loss, rtol=1e-12)
    np.testing.assert_allclose(result.linear_power, result.mean_weight_norm, rtol=1e-12)


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(
    ("stream", "progress", "shown"),
    [(Terminal, True, True), (Terminal, False, False), (Terminal, None, False), (io.StringIO, True, False)],
)
def test_progress_shows_on_a_terminal_only(monkeypatch: pytest.MonkeyPatch, stream, progress, shown) -> None:
    monkeypatch.setattr(sys, "stderr", stream())
    simulate(MODEL, 0.2, seeds=1, step=0.1, progress=progress)
    assert bool(sys.stderr.getvalue()) == shown
