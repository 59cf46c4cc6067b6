"""Every script of the gallery runs, in its smallest size, and the gallery's page shows what each of them writes."""

import re
import runpy
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from dmft import Model
from sim import Experiment, simulate

ROOT = Path(__file__).parents[2]
EXAMPLES = ROOT / "examples"
SCRIPTS = sorted(EXAMPLES.glob("figure_*.py"))
PAGE = ROOT / "docs" / "gallery.md"


def picture(script: Path) -> str:
    """The name of the picture that a script writes."""
    return re.search(r'run\(draw, "(gallery-fig\w+)"\)', script.read_text(encoding="utf-8"))[1]  # type: ignore[index]


def test_there_is_a_script_for_each_figure() -> None:
    names = {script.stem.removeprefix("figure_").lstrip("0") for script in SCRIPTS}
    assert names == {"1", "3a", "3b", "3e", "4", "7", "9", "10", "14", "15"}
    assert [picture(script) for script in SCRIPTS] == [
        f"gallery-fig{script.stem.removeprefix('figure_').lstrip('0')}" for script in SCRIPTS
    ]


def test_the_page_shows_every_picture_and_names_every_script() -> None:
    page = PAGE.read_text(encoding="utf-8")
    for script in SCRIPTS:
        # the delay over both fields is shown as `dmft phase` draws it, with more points
        name = picture(script) if script.stem != "figure_03e" else "phase-fig3e"
        assert f"](assets/{name}.png)" in page
        assert (PAGE.parent / "assets" / f"{name}.png").stat().st_size > 10_000
        assert f"examples/{script.name}" in page


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda script: script.stem)
def test_each_script_has_three_sizes_and_says_how_to_run_the_full_one(script: Path, monkeypatch) -> None:
    monkeypatch.syspath_prepend(str(EXAMPLES))
    module = runpy.run_path(str(script))
    assert set(module["SIZES"]) == {"full", "default", "quick"}
    assert f"python examples/{script.name} [--full]" in module["__doc__"]


#: Scripts whose smallest size takes a minute, most of it compilation: to be run by hand.
LONG = ("figure_01", "figure_03a", "figure_10")


@pytest.mark.slow
@pytest.mark.parametrize(
    "script", [script for script in SCRIPTS if script.stem not in LONG], ids=lambda script: script.stem
)
def test_every_script_runs(script: Path, tmp_path) -> None:
    """As a reader runs it; what one has compiled, the next reads from the tests' cache."""
    done = subprocess.run(
        [sys.executable, str(script), "--quick", "--out", str(tmp_path)], cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert (tmp_path / f"{picture(script)}.png").stat().st_size > 10_000
    assert "wrote" in done.stdout


def test_a_script_tells_of_its_sizes(monkeypatch, capsys) -> None:
    monkeypatch.syspath_prepend(str(EXAMPLES))
    monkeypatch.setattr(sys, "argv", ["figure_04.py", "--help"])
    with pytest.raises(SystemExit, match="0"):
        runpy.run_path(str(EXAMPLES / "figure_04.py"), run_name="__main__")
    shown = capsys.readouterr().out
    assert all(option in shown for option in ("--full", "--quick", "--out"))


# What the scripts assume


def test_a_target_without_the_half_is_half_the_output_scale() -> None:
    """Figures 3 (a), 3 (b) and 7: y -> 2 y at alpha is y at alpha/2, losses times four, step for step."""
    model = Model(alpha=0.8, epsilon=0.25, kappa=3, dim=10, width=12, centered=True)
    double = simulate(Experiment(model=model, strengths=(2.0,)), 2.0, step=0.05, seeds=2)
    same = simulate(model.replace(alpha=0.4), 2.0, step=0.05, seeds=2)
    for loss in ("train_loss", "test_loss"):
        np.testing.assert_allclose(double[loss], 4.0 * same[loss], rtol=1e-9)


def test_interpolated_weights_are_a_planted_overlap(monkeypatch) -> None:
    """Figure 10: many neurons that begin as a share of the solution, against the model that stands for them."""
    monkeypatch.syspath_prepend(str(EXAMPLES))
    interpolated = runpy.run_path(str(EXAMPLES / "figure_10.py"))["interpolated"]
    share, dim = 0.3, 10
    network = Model(alpha=1.0, epsilon=0.25, kappa=3, dim=dim, width=20_000)
    pairs = simulate(Experiment(model=network, interpolation=share), 1.0, step=0.05, seeds=1)
    same = simulate(interpolated(share, dim), 1.0, step=0.05, seeds=1)
    for loss in ("train_loss", "test_loss"):
        np.testing.assert_allclose(pairs[loss], same[loss], rtol=0.05)
    planted = interpolated(share, dim).initial_overlap * (1 - share) ** 2
    assert planted == pytest.approx(share**2 / 0.25 + (1 - share) ** 2 / dim)


@pytest.mark.slow
def test_movement_of_the_parameters_is_that_of_the_simulation(monkeypatch) -> None:
    """Figure 7: the linear network, whose movement is that of the mean weight alone, exactly."""
    import dmft

    monkeypatch.syspath_prepend(str(EXAMPLES))
    movement = runpy.run_path(str(EXAMPLES / "figure_07.py"))["movement"]
    model = Model(alpha=0.5, epsilon=0.0, kappa=3.0)
    theory = dmft.solve(model, 2.0, step=0.1, sample_count=64, replicas=4, kernels=True)
    assert movement(theory) == pytest.approx(float(theory["mean_weight_norm"][-1]) ** 0.5, rel=1e-6)
    run = simulate(Experiment(model=model.replace(dim=100, width=300)), 2.0, step=0.1, seeds=8, times=[0.0, 2.0])
    moved = run["parameter_movement"].to_numpy()[:, -1]
    assert abs(moved.mean() - movement(theory)) < 4.0 * moved.std(ddof=1) / 8**0.5 + 0.02 * moved.mean()
