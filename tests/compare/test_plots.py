"""Pictures: written whole, in the right format, with every curve told apart."""

import sys

import matplotlib
import numpy as np
import pytest

from compare import overlay
from compare.figures import overlay as plots
from compare.figures.style import POINTS, thin
from dmft import ParameterError


@pytest.mark.parametrize(("name", "start"), [("a.png", b"\x89PNG"), ("a.pdf", b"%PDF")])
def test_plot_writes_the_format_of_the_ending(name, start, tmp_path, make_theory, make_simulation):
    overlay(make_theory(), make_simulation()).plot(tmp_path / name)
    assert (tmp_path / name).read_bytes().startswith(start)
    assert [file.name for file in tmp_path.iterdir()] == [name]


def test_a_notebook_shows_a_picture_once(make_theory, make_simulation):
    """IPython asks for `_repr_png_`; figures that pyplot knows would be shown a second time at the end of the cell."""
    shown = overlay(make_theory(), make_simulation()).plot()._repr_png_()
    assert shown.startswith(b"\x89PNG")
    assert 10_000 < len(shown) < 300_000
    pyplot = sys.modules.get("matplotlib.pyplot")
    assert pyplot is None or not pyplot.get_fignums()


def test_unknown_endings_are_refused(tmp_path, make_theory):
    with pytest.raises(ParameterError, match=r"\.png or \.pdf"):
        overlay(make_theory(), make_theory()).plot(tmp_path / "picture.bmp")
    assert not list(tmp_path.iterdir())


def test_a_figure_has_named_axes_title_and_distinct_styles(make_theory, make_simulation):
    before = dict(matplotlib.rcParams)
    figure = overlay(make_theory(), make_simulation()).plot()
    assert dict(matplotlib.rcParams) == before
    assert len(figure.axes) == 3
    assert r"\kappa = 4" in figure.get_suptitle()
    assert "8 seeds" in figure.get_suptitle()
    for axes in figure.axes:
        assert axes.get_ylabel()
        assert axes.get_xscale() == "log"
        assert axes.get_xlim()[0] > 0.0
        assert axes.get_legend() is not None
    for _, styles in (plots.LOSSES, plots.ORDER_PARAMETERS, plots.DECOMPOSITION):
        for part in ("color", "line", "marker"):
            assert len({getattr(style, part) for style in styles.values()}) == len(styles)


def test_measured_curves_leave_lines_alone_below(make_theory, make_simulation):
    simulation = make_simulation(seeds=1)
    measured = {name: simulation[name].values for name in ("time",)}
    measured |= {name: simulation[name].values[0] for name in ("train_loss", "test_loss")}
    assert len(overlay(make_theory(), measured).plot().axes) == 3
    assert len(overlay(measured, measured).plot().axes) == 1
    assert len(overlay(make_theory(), make_theory()).plot().axes) == 3
    assert len(overlay(make_theory(), simulation).plot().axes) == 3


def test_points_are_thinned_evenly_in_log_time():
    time = np.linspace(0.01, 100.0, 10000)
    chosen = thin(time)
    assert chosen[0] == 0
    assert chosen[-1] == time.size - 1
    assert 15 <= chosen.size <= POINTS
    assert thin(time[:5]).tolist() == [0, 1, 2, 3, 4]


def test_a_second_size_has_open_points_beside_the_others_and_the_spread_a_pale_band(make_theory, make_simulation):
    theory = make_theory()
    theory["test_loss_spread"] = 0.2 * theory.test_loss
    beside = overlay(make_theory(dim=200), make_simulation(dim=200, seeds=4, random=1))
    plain, both = (overlay(theory, make_simulation()).plot(beside=other) for other in (None, beside))
    marks = [container.lines[0] for container in both.axes[0].containers if container.lines[0].get_marker() == "s"]
    full, opened = sorted(marks, key=lambda line: line.get_markerfacecolor() == "white")
    assert opened.get_markerfacecolor() == "white" != full.get_markerfacecolor()
    assert not set(full.get_xdata()) & set(opened.get_xdata())
    assert "open: $D = 200$, mean of 4 seeds" in both.get_suptitle()
    for figure in (plain, both):
        first, kinds = figure.get_suptitle().splitlines()[:2]
        assert "D" not in first
        assert kinds.startswith(r"lines: theory, $D = \infty$;  points: simulation, $D = 100$, mean of 8 seeds")
    random = overlay(make_theory(initial_overlap=0.0), make_simulation(initial_overlap=0.0)).plot()
    assert "theory, start of $D = 100$;" in random.get_suptitle()
    assert "$D = 100 | 200$" in overlay(make_theory(), make_theory(dim=200)).plot().get_suptitle()
    assert "open" not in plain.get_suptitle()
    for figure in (plain, both):
        bands = [band.get_paths()[0].vertices for band in figure.axes[0].collections if band.get_alpha() == 0.13]
        assert len(bands) == 1
        at = np.argmin(abs(theory.time.values - 10.0))
        edges = bands[0][np.isclose(bands[0][:, 0], theory.time.values[at]), 1]
        np.testing.assert_allclose([edges.min(), edges.max()], np.array([0.8, 1.2]) * theory.test_loss.values[at])
        assert "how one run at $D = 100$ scatters" in figure.get_suptitle()
