"""Pictures of the paper's runs, the command, and whether the runs show what the paper's figures show."""

import dataclasses
import json

import numpy as np
import pytest
import xarray

from compare.cli import main
from compare.figures.paper import THRESHOLD, delay_in_steps, preset_figure, preset_summary, relative, steps_of
from compare.grokking import grokking_delay, regime
from sim import preset, run_preset
from sim.presets import PRESETS


def curve(train: list[float], test: list[float]) -> xarray.Dataset:
    """A run of one seed, observed at steps 0, 1, 10, 100, ... of 0.5 each."""
    steps = np.array([0, *10 ** np.arange(len(train) - 1)])
    losses = {"train_loss": (("seed", "time"), [train]), "test_loss": (("seed", "time"), [test])}
    return xarray.Dataset(losses, {"time": 0.5 * steps}, {"paper_step": 0.5})


def test_steps_and_relative_losses() -> None:
    run = curve([2.0, 1.0, 0.02], [4.0, 3.0, 1.0])
    np.testing.assert_array_equal(steps_of(run), [0, 1, 10])
    np.testing.assert_allclose(relative(run).train_loss[0], [1.0, 0.5, 0.01])
    np.testing.assert_allclose(relative(run).test_loss[0], [1.0, 0.75, 0.25])


@pytest.mark.parametrize(
    ("train", "test", "value", "word"),
    [
        ([1.0, 0.1, 0.0, 0.0], [1.0, 1.0, 1.0, 0.1], 99.0, "99"),
        ([1.0, 0.1, 0.0, 0.0], [1.0, 1.0, 1.0, 0.2], np.nan, "test not\nbelow"),
        ([1.0, 1.0, 1.0, 0.2], [1.0, 1.0, 1.0, 0.2], np.nan, "train not\nbelow"),
    ],
)
def test_delays_are_in_steps(train: list[float], test: list[float], value: float, word: str) -> None:
    delay, text = delay_in_steps(curve(train, test))
    assert delay == pytest.approx(value, nan_ok=True)
    assert text == word


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ["--preset", "fig2"],
            "Argument `preset` must be one of fig1, fig3a, fig3b, fig3e, fig3e-full, fig3e-flow, fig4, fig9, but is",
        ),
        (["--preset", "fig1", "--alpha", "2"], "Argument `alpha` must be left out with a preset, which fixes it"),
        (["--preset", "fig1", "--seeds", "0"], "Argument `seeds` must be an integer >= 1, but is 0"),
    ],
)
def test_bad_use_of_a_preset_is_refused(arguments: list[str], message: str, tmp_path, capsys) -> None:
    assert main(["simulate", *arguments, "--out", str(tmp_path / "out")]) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_the_command_writes_runs_picture_and_summary(tmp_path, monkeypatch: pytest.MonkeyPatch) -> None:
    short = dataclasses.replace(preset("fig4"), steps=40)
    monkeypatch.setitem(PRESETS, "fig4", lambda: short)
    assert main(["simulate", "--preset", "fig4", "--seeds", "2", "--out", str(tmp_path)]) == 0
    assert sorted(path.name for path in tmp_path.iterdir()) == ["fig4-network.nc", "fig4.json", "fig4.png"]
    stored = xarray.load_dataset(tmp_path / "fig4-network.nc", engine="h5netcdf")
    assert dict(stored.test_loss.sizes) == {"seed": 2, "time": stored.sizes["time"]}
    summary = json.loads((tmp_path / "fig4.json").read_text())
    assert (summary["runs"]["network"]["steps"], summary["runs"]["network"]["seeds"]) == (40, 2)
    assert summary["runs"]["network"][f"seeds_reaching_test_loss_{THRESHOLD:g}"] == 0
    assert summary["runs"]["network"][f"steps_to_test_loss_{THRESHOLD:g}"] is None
    assert summary["runs"]["network"]["test_loss"] == pytest.approx(float(stored.test_loss.mean("seed")[-1]), rel=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in PRESETS if name not in ("fig3e-full", "fig3e-flow")])
def test_every_preset_has_a_picture(name: str) -> None:
    chosen = preset(name)
    results = run_preset(chosen, steps=30)
    assert list(results) == [run.label for run in chosen.runs]
    assert len(preset_figure(chosen, results).axes) >= 2
    assert len(preset_summary(chosen, results)["runs"]) == len(chosen.runs)


@pytest.mark.slow
def test_too_little_enough_and_plenty_of_data() -> None:
    """Figure 9: memorises, groks, generalises; figure 4 is its middle: the linear power rises again, then falls."""
    results = run_preset("fig9")
    assert [str(regime(dataset)) for dataset in results.values()] == ["memorises", "groks", "generalises"]
    power = results["samples-120"].linear_power[0].to_numpy()
    dip = int(np.argmin(power[:100]))
    assert power[dip:].max() > 1.5 * power[dip]
    assert power[-1] < 1e-3 * power[dip:].max()


@pytest.mark.slow
def test_laziness_delays_generalisation() -> None:
    """Figure 3 (a), its first 3000 steps: the test loss halves ever later after the train loss."""
    chosen = preset("fig3a")
    chosen = dataclasses.replace(chosen, runs=chosen.runs[:5])
    results = run_preset(chosen, steps=3000)
    ratios = []
    for run in chosen.runs:
        delay = grokking_delay(relative(results[run.label]), 0.5)
        ratios.append(delay.t_test.value / delay.t_train.value)
    assert np.all(np.diff(ratios) > 0.0)


@pytest.mark.slow
def test_the_network_leaves_its_linearisation() -> None:
    """Figure 1: one curve for the first 500 steps, then the network's train loss falls first, its test loss later."""
    (dataset,) = run_preset("fig1", steps=40_000).values()
    early = dataset.isel(time=steps_of(dataset) <= 500)
    np.testing.assert_allclose(early.test_loss, early.linearized_test_loss, rtol=0.01)
    assert float(dataset.test_loss.max()) > 1.15 * float(dataset.test_loss[0, 0])
    delay = grokking_delay(dataset)
    assert delay.t_test.value > 3.0 * delay.t_train.value
    assert float(dataset.test_loss[0, -1]) < 0.25 * float(dataset.kernel_regression_test_loss[0])
    assert float(dataset.linearized_test_loss[0, -1]) > float(dataset.kernel_regression_test_loss[0])
    assert float(dataset.kernel_alignment[0, -1]) > 1.2 * float(dataset.kernel_alignment[0, 0])
