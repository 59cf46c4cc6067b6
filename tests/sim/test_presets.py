"""The presets are the paper's runs: sizes, learning rates as times per step, numbers of steps."""

import numpy as np
import pytest

from dmft.checks import DivergenceError, ParameterError
from dmft.models.model import Model
from sim import Experiment, preset, run_preset
from sim.presets import Preset, PresetRun, observed_steps


def test_an_unknown_preset_is_refused_with_the_list() -> None:
    with pytest.raises(ParameterError, match=r"`preset` must be one of fig1, .*, fig9, but is 'fig2'"):
        preset("fig2")


@pytest.mark.parametrize(
    ("name", "runs", "dim", "samples", "width", "centered", "step", "steps"),
    [
        ("fig1", 1, 100, [550], 500, True, 2 / 100, 100_000),  # eta = N / alpha^2 on the plain mean square
        ("fig3a", 9, 100, [450], 500, True, 1 / 100, 60_000),  # 0.5 N on the mean square / alpha^2
        ("fig3b", 5, 100, [450], 500, True, 1 / 100, 60_000),
        ("fig3e", 16, 100, [550], 500, True, 40 / 100, 110_000),  # 20 N / alpha^2 on the plain mean square
        ("fig3e-full", 196, 100, [550], 500, True, 40 / 100, 110_000),
        ("fig3e-flow", 196, 100, [550], 500, True, 40 / 100, 110_000),
        ("fig4", 1, 40, [120], 2, False, 1 / 40, 50_000),  # 0.5 N / alpha^2 on the plain mean square
        ("fig9", 3, 40, [50, 120, 500], 2, False, 1 / 40, 50_000),
    ],
)
def test_sizes_and_rates(
    name: str, runs: int, dim: int, samples: list[int], width: int, centered: bool, step: float, steps: int
) -> None:
    chosen = preset(name)
    assert chosen.name == name
    assert (len(chosen.runs), chosen.steps) == (runs, steps)
    assert len({run.label for run in chosen.runs}) == runs
    assert sorted({run.experiment.samples for run in chosen.runs}) == samples
    for run in chosen.runs:
        assert (run.experiment.dim, run.experiment.width, run.experiment.model.centered) == (dim, width, centered)
        assert run.step == pytest.approx(step, rel=1e-12)


def test_values_swept() -> None:
    assert [run.experiment.model.alpha for run in preset("fig3a").runs] == [2.0**k for k in (-5, *range(-2, 6))]
    assert [run.experiment.model.epsilon for run in preset("fig3b").runs] == [2.0**k for k in range(-2, 3)]
    grid = {(run.experiment.model.alpha, run.experiment.model.epsilon) for run in preset("fig3e").runs}
    assert sorted({alpha for alpha, _ in grid}) == pytest.approx([0.4, 2.0, 4.0, 5.6])
    assert sorted({epsilon for _, epsilon in grid}) == pytest.approx([0.02, 0.1, 0.2, 0.28])


def test_observations_are_even_in_the_logarithm_and_complete() -> None:
    steps = observed_steps(100_000)
    assert (steps[0], steps[1], steps[-1]) == (0, 1, 100_000)
    assert 150 <= steps.size <= 202
    assert np.all(np.diff(steps) >= 1)
    late = steps[steps > 100]
    assert np.diff(np.log(late)).max() < 0.07


def test_of_a_sweep_the_points_that_do_not_diverge_are_kept() -> None:
    experiment = Experiment(model=Model(alpha=1.0, epsilon=0.5, kappa=2.0, dim=6, width=3))
    sound, wild = (
        PresetRun(label=f"rate-{rate:g}", experiment=experiment, learning_rate=rate, loss_factor=2.0)
        for rate in (0.1, 1e4)
    )
    both = Preset(name="two", title="", runs=(wild, sound), steps=20)
    with pytest.warns(UserWarning, match=r"two, rate-10000: Training diverged by t = "):
        results = run_preset(both)
    assert [int(results[run.label].attrs["complete"]) for run in (wild, sound)] == [0, 1]
    with pytest.raises(DivergenceError, match="Training diverged"):
        run_preset(Preset(name="one", title="", runs=(wild,), steps=20))


def test_a_preset_runs_and_says_what_it_is() -> None:
    results = run_preset("fig4", steps=40, seeds=2)
    assert list(results) == ["network"]
    dataset = results["network"]
    assert dataset.attrs["preset"] == "fig4"
    assert (dataset.attrs["learning_rate"], dataset.attrs["loss_factor"], dataset.attrs["seed"]) == (1.0, 2.0, 8)
    assert dataset.attrs["step"] == pytest.approx(1 / 40)
    assert float(dataset.time[-1]) == pytest.approx(1.0)
    again = run_preset("fig4", steps=40, seeds=2, seed=0)["network"]
    assert float(abs(again.test_loss - dataset.test_loss).max()) > 0.01
