"""Pictures of phase diagrams: drawn whatever the data hold, with borders, hatching and marks where they belong."""

import warnings
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import pytest
import xarray
from matplotlib.collections import LineCollection, PathCollection, PolyCollection, QuadMesh
from matplotlib.container import ErrorbarContainer

from compare import overlay
from compare.figures.phase.axes import CellAxis, regime_borders
from compare.figures.phase.figure import phase_figure
from compare.figures.phase.maps import AT_ONCE, DISAGREES, UNREACHED
from compare.figures.phase.panels import panels_figure
from compare.figures.phase.words import place_words
from compare.files import write_figure
from dmft import ParameterError

NUMBERS = ("t_train", "t_test", "delay", "final_train_loss", "final_test_loss", "peak_test_loss")
GROKS, GENERALISES, MEMORISES, NOT_TRAINED, UNDECIDED = range(1, 6)


def made_up(
    x: tuple[str, Any], y: tuple[str, Any] | None = None, every: int = 0, theory: bool = True, t_max: float = 60.0
) -> xarray.Dataset:
    """A phase diagram of smooth made-up times over alpha-like x and kappa-like y, with all regimes if it is large.

    Simulation is on every `every`-th cell, its times 10 % longer.
    """
    fields = [x, y] if y else [x]
    mesh = np.meshgrid(*(np.asarray(values, float) for _, values in fields), indexing="ij")
    scaled = [np.log(np.maximum(m, 1e-3)) for m in mesh]
    a = scaled[0]
    k = scaled[1] if y else np.full_like(a, np.log(3.0))
    dims = tuple(name for name, _ in fields)
    data: dict[str, Any] = {}
    for prefix, factor, step in (("", 1.0, 1), ("simulation_", 1.1, every)):
        if (prefix == "" and not theory) or step == 0:
            continue
        asked = np.zeros(a.shape, bool)
        asked[tuple(slice(None, None, step) for _ in dims)] = True
        t_train = factor * np.exp(0.5 + 0.3 * a**2 - 0.2 * k)
        t_test = factor * np.exp(3.0 - 0.9 * a - 0.8 * (k - 1.0) + 0.25 * a**2)
        data.update(_variables(prefix, dims, asked, t_train, t_test, t_max))
    attributes = {
        "x": dims[0],
        "y": dims[1] if y else "",
        "t_max": t_max,
        "threshold": 0.1,
        "step": "flow",
        "rtol": 0.01,
        "seeds": 8,
        "seed": 0,
        "simulate_every": every,
        "precision": "float64",
        "version": "0",
        "numerics": "",
        "model_epsilon": 0.25,
        "model_dim": 100,
        "model_initial_overlap": 0.1,
        "model_centered": 0,
        "model_label_noise": 0.0,
        "model_weight_decay": 0.0,
    }
    if not y:
        attributes["model_kappa"] = 3.0
    return xarray.Dataset(data, {name: values for name, values in fields}, attributes)


def _variables(prefix, dims, asked, t_train, t_test, t_max):
    rows: dict[str, np.ndarray] = {}
    state = asked.astype(np.int8)
    reached_train, reached_test = (time <= t_max for time in (t_train, t_test))
    both = reached_train & reached_test
    rows["t_train"] = np.where(reached_train, t_train, np.nan)
    rows["t_test"] = np.where(reached_test, t_test, np.nan)
    rows["delay"] = np.where(both, np.maximum(0.0, t_test - t_train), np.nan)
    rows["final_train_loss"] = np.where(reached_train, 0.1 * (t_train / t_max) ** 2, 0.3)
    rows["final_test_loss"] = 0.1 * (t_test / t_max) ** 0.7
    rows["peak_test_loss"] = 1.5 + 0.0 * t_test
    rows |= {f"{name}_error": 0.05 * np.abs(rows[name]) for name in NUMBERS}
    ending = np.where(reached_train, MEMORISES, NOT_TRAINED)
    ending = np.where(reached_train & ~reached_test & (t_test < 2.0 * t_max), UNDECIDED, ending)
    ending = np.where(both, np.where(t_test > 3.0 * t_train, GROKS, GENERALISES), ending)
    rows = {name: np.where(asked, value, np.nan) for name, value in rows.items()}
    for name, value in (("t_train", reached_train), ("t_test", reached_test), ("delay", both)):
        rows[f"{name}_reached"] = (value & asked).astype(np.int8)
    rows["regime"] = (ending * asked).astype(np.int8)
    rows["regime_certain"] = (np.abs(np.log(t_test / t_max)) > 0.3).astype(np.int8) * state
    rows["state"] = state
    return {f"{prefix}{name}": (dims, value) for name, value in rows.items()}


def grid(columns: int = 10, rows: int = 10, every: int = 0, theory: bool = True, t_max: float = 60.0) -> xarray.Dataset:
    x, y = np.geomspace(0.25, 8.0, columns), np.geomspace(0.5, 12.0, rows)
    return made_up(("alpha", x), ("kappa", y), every, theory, t_max)


def with_state(phase: xarray.Dataset, state: int, **place: Any) -> xarray.Dataset:
    """The same with `state` (0 absent, 2 failed) at a place, where nothing else is known any more."""
    phase = phase.copy(deep=True)
    for prefix in ("", "simulation_"):
        if f"{prefix}state" not in phase:
            continue
        for name in NUMBERS:
            phase[f"{prefix}{name}"][place] = np.nan
        for name in ("regime", "regime_certain", "delay_reached", "t_train_reached", "t_test_reached"):
            phase[f"{prefix}{name}"][place] = 0
        phase[f"{prefix}state"][place] = state
    return phase


def with_chances(phase: xarray.Dataset) -> xarray.Dataset:
    """The same with the probability that one run groks."""
    for prefix in ("", "simulation_"):
        likely = 1 / (1 + phase[f"{prefix}final_test_loss"] / 0.1)
        phase = phase.assign({f"{prefix}grok_probability": likely, f"{prefix}grok_probability_error": 0.1 * likely})
    return phase


def written(figure: Any, path: Path, form: str = "png") -> bytes:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        write_figure(path, figure, form)
    return path.read_bytes()


CASES = {
    "simulation on a part": lambda: with_state(with_state(grid(every=3), 2, alpha=3, kappa=3), 0, alpha=5, kappa=5),
    "simulation alone": lambda: grid(6, 6, every=1, theory=False),
    "one row": lambda: grid(6, 1, every=2),
    "one column": lambda: grid(1, 6),
    "one cell": lambda: grid(1, 1, every=1),
    "all failed": lambda: with_state(grid(3, 3, every=1), 2),
    "all absent": lambda: with_state(grid(3, 3), 0),
    "all unreached": lambda: grid(3, 3, every=2, t_max=0.01),
    "irregular, from zero": lambda: made_up(("epsilon", [0.0, 0.1, 0.3, 1.0]), ("width", np.array([10, 1000])), 1),
    "with chances": lambda: with_chances(with_state(grid(5, 4, every=2), 2, alpha=3, kappa=3)),
    "line with chances": lambda: with_chances(made_up(("alpha", np.geomspace(0.1, 20.0, 12)), every=2)),
    "line": lambda: with_state(made_up(("alpha", np.geomspace(0.1, 20.0, 12)), every=2), 2, alpha=4),
    "line, simulation alone": lambda: made_up(("dim", np.array([50])), every=1, theory=False),
    "line, all failed": lambda: with_state(made_up(("alpha", [1.0, 2.0]), every=1), 2),
    "line, all unreached": lambda: made_up(("alpha", [1.0, 2.0]), every=1, t_max=0.01),
}


@pytest.mark.parametrize("case", CASES)
def test_every_kind_of_diagram_is_drawn_without_a_warning(case: str) -> None:
    before = dict(matplotlib.rcParams)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        figure = phase_figure(CASES[case]())
        figure.draw_without_rendering()
    assert dict(matplotlib.rcParams) == before
    places = [axes.get_position() for axes in figure.axes]
    assert all(0.0 <= place.x0 < place.x1 <= 1.0 and 0.0 <= place.y0 < place.y1 <= 1.0 for place in places)


def test_a_diagram_of_nothing_is_refused() -> None:
    with pytest.raises(ParameterError, match="must hold `state` or `simulation_state`"):
        phase_figure(xarray.Dataset(attrs={"x": "alpha", "y": ""}))


def test_the_same_diagram_gives_the_same_bytes_in_any_order_of_its_values(tmp_path: Path) -> None:
    phase = grid(4, 3, every=2)
    first, again = (phase_figure(one) for one in (phase, phase.isel(alpha=slice(None, None, -1)).transpose()))
    for form in ("png", "pdf"):
        content = written(first, tmp_path / "first", form)
        assert content == written(again, tmp_path / "again", form)
        assert b"CreationDate" not in content


def test_axes_follow_the_spacing_of_their_values() -> None:
    for values, scale, edges in (
        ([0.1, 1.0, 10.0], "log", 10.0 ** np.array([-1.5, -0.5, 0.5, 1.5])),
        ([10.0, 0.1, 1.0], "log", 10.0 ** np.array([-1.5, -0.5, 0.5, 1.5])),
        ([1.0, 2.0, 3.0, 4.0, 5.0], "linear", np.arange(0.5, 6.0)),
        ([0.0, 0.5, 1.0], "linear", [-0.25, 0.25, 0.75, 1.25]),
        ([1.0, 1.1, 1.21], "linear", [0.95, 1.05, 1.155, 1.265]),
        ([2.0], "linear", [1.0, 3.0]),
        ([0.0], "linear", [-0.5, 0.5]),
    ):
        axis = CellAxis.of(xarray.Dataset(coords={"alpha": values}), "alpha")
        assert axis.scale == scale
        np.testing.assert_allclose(axis.edges, edges, rtol=1e-12)
        np.testing.assert_allclose(axis.values, sorted(values))
        np.testing.assert_allclose(axis.fractions(axis.edges)[[0, -1]], [0.0, 1.0], atol=1e-12)
    from_zero = CellAxis.of(xarray.Dataset(coords={"alpha": [0.0, 0.01, 0.1, 1.0]}), "alpha")
    np.testing.assert_allclose(np.diff(from_zero.fractions(from_zero.edges)), 0.25, atol=0.02)


def test_borders_are_where_regimes_differ() -> None:
    regimes = np.array([[0, 1, 1, 2], [5, 1, 3, 0]])
    certain = np.array([[0, 1, 1, 0], [1, 1, 1, 0]])
    borders = regime_borders(regimes, certain, np.array([-1.0, 0.0, 1.0, 2.0, 4.0]), np.array([0.0, 10.0, 20.0]))
    found = {(tuple(map(tuple, segment)), bool(sure)) for segment, sure in zip(*borders, strict=True)}
    assert found == {
        (((2.0, 0.0), (2.0, 10.0)), False),  # 1 | 2
        (((0.0, 10.0), (0.0, 20.0)), True),  # 5 | 1
        (((1.0, 10.0), (1.0, 20.0)), True),  # 1 | 3
        (((1.0, 10.0), (2.0, 10.0)), True),  # 1 below 3; nothing beside the absent cells
    }
    assert regime_borders(np.ones((3, 3), int), np.ones((3, 3)), np.arange(4.0), np.arange(4.0)).segments.size == 0


def test_names_stand_inside_their_regions_and_beside_marks() -> None:
    regions = np.zeros((100, 200), int)
    regions[:, :120], regions[:, 120:140], regions[:40, 150:170], regions[90:, 150:153] = 1, 2, 3, 4
    taken = np.zeros_like(regions, bool)
    taken[40:60, :120] = True
    words = {word.text: word for word in place_words(regions, taken, 10.0)}
    assert set(words) == {"groks", "generalises", "me"}  # no room for the fourth
    assert words["generalises"].upright
    assert not words["groks"].upright
    assert abs(100.0 * words["groks"].y - 50.0) > 15.0
    for number, word in zip((1, 2, 3), words.values(), strict=True):
        assert regions[int(100 * word.y), int(200 * word.x)] == number
    everywhere = np.ones_like(taken)
    assert {word.text for word in place_words(regions, everywhere, 10.0)} == {"gr", "ge", "me"}


def hatched(axes: Any, hatch: str) -> set[tuple[float, float]]:
    """Lower left corners of the cells with this hatch."""
    collections = [item for item in axes.collections if isinstance(item, PolyCollection) and item.get_hatch() == hatch]
    return {tuple(path.vertices[0]) for item in collections for path in item.get_paths()}


def corners(phase: xarray.Dataset, mask: xarray.DataArray) -> set[tuple[float, float]]:
    """Lower left corners of the cells of `mask`, over (alpha, kappa)."""
    x, y = (CellAxis.of(phase, name).edges for name in ("alpha", "kappa"))
    return {(x[i], y[j]) for i, j in np.argwhere(mask.transpose("alpha", "kappa").to_numpy())}


def test_cells_without_a_delay_are_hatched_failed_ones_crossed_absent_ones_blank() -> None:
    phase = with_state(with_state(grid(), 2, alpha=2, kappa=7), 0, alpha=[5, 6], kappa=5)
    delays, losses = phase_figure(phase).axes[:2]
    done = phase.state == 1
    assert hatched(delays, UNREACHED[1]) == corners(phase, done & (phase.delay_reached == 0)) != set()
    assert hatched(delays, AT_ONCE[1]) == corners(phase, done & (phase.delay == 0.0)) != set()
    assert hatched(losses, UNREACHED[1]) == hatched(losses, AT_ONCE[1]) == set()
    crosses = [
        item for item in delays.collections if isinstance(item, LineCollection) and len(item.get_segments()) == 2
    ]
    assert corners(phase, phase.state == 2) == {tuple(crosses[0].get_segments()[0][0])}
    for axes, known in ((delays, done & (phase.delay > 0.0)), (losses, done)):
        (mesh,) = (item for item in axes.collections if isinstance(item, QuadMesh))
        shown = ~np.ma.getmaskarray(mesh.get_array())
        np.testing.assert_array_equal(shown, known.transpose("kappa", "alpha").to_numpy())


def test_simulation_lies_over_theory_in_its_colours_with_another_mark_where_the_regime_differs() -> None:
    phase = grid(6, 6, every=2)
    phase["simulation_regime"] = phase["regime"] * phase["simulation_state"]
    phase["simulation_regime"][2, 2] = phase["regime"][2, 2] % 5 + 1
    axes = phase_figure(phase).axes[1]
    (mesh,) = (item for item in axes.collections if isinstance(item, QuadMesh))
    marks = [item for item in axes.collections if isinstance(item, PathCollection) and item.get_array() is not None]
    same, other = sorted((item for item in marks if len(item.get_offsets())), key=lambda item: -len(item.get_offsets()))
    assert len(other.get_offsets()) == 1
    np.testing.assert_allclose(other.get_offsets()[0], [phase.alpha[2], phase.kappa[2]])
    assert matplotlib.colors.to_hex(other.get_edgecolor()[0]) == DISAGREES.lower()
    assert len(same.get_offsets()) == 8
    for item in (same, other):
        assert item.norm is mesh.norm
        for place, value in zip(item.get_offsets(), item.get_array(), strict=True):
            at = phase.sel(alpha=place[0], kappa=place[1], method="nearest")
            assert value == float(at.simulation_final_test_loss)


def test_the_chance_to_grok_is_a_map_like_the_others() -> None:
    phase = with_chances(grid(6, 6, every=2))
    axes = phase_figure(phase).axes[2]
    (mesh,) = (item for item in axes.collections if isinstance(item, QuadMesh))
    np.testing.assert_array_equal(mesh.get_array(), phase.grok_probability.transpose("kappa", "alpha"))
    assert (mesh.norm.vmin, mesh.norm.vmax) == (0.0, 1.0)
    marks = [item for item in axes.collections if isinstance(item, PathCollection) and item.get_array() is not None]
    shown = np.concatenate([item.get_array() for item in marks])
    simulated = phase.simulation_grok_probability.values[phase.simulation_state.values > 0]
    np.testing.assert_allclose(np.sort(shown), np.sort(simulated))
    assert len(phase_figure(grid(6, 6)).axes) == 4  # two maps with their colours


def test_unreached_times_on_a_line_are_lower_limits() -> None:
    phase = made_up(("alpha", np.geomspace(0.1, 20.0, 12)))
    _, times, _ = phase_figure(phase).axes
    limits = [
        bars
        for bars in times.containers
        if isinstance(bars, ErrorbarContainer)
        and bars.lines[0].get_marker() == "s"
        and 60.0 in bars.lines[0].get_ydata()
    ]
    np.testing.assert_allclose(limits[0].lines[0].get_xdata(), phase.alpha[phase.t_test_reached == 0])
    assert "at least (not reached)" in [text.get_text() for text in times.get_legend().get_texts()]
    curve = next(line for line in times.lines if line.get_linestyle() == "--" and len(line.get_xdata()) == 12)
    np.testing.assert_array_equal(np.isnan(curve.get_ydata()), phase.t_test_reached == 0)


def pairs(columns: int, rows: int, make_theory: Any, make_simulation: Any, **options: Any) -> list[Any]:
    return [
        (x, y, make_theory(), make_simulation(random=10 * i + j, **options))
        for i, x in enumerate(np.geomspace(0.25, 8.0, columns))
        for j, y in enumerate(np.geomspace(0.5, 12.0, rows) if rows else [None])
    ]


def words_in(axes: Any) -> str:
    return " ".join(text.get_text() for text in axes.texts)


def test_panels_say_what_the_agreement_says(make_theory: Any, make_simulation: Any, tmp_path: Path) -> None:
    points = pairs(2, 2, make_theory, make_simulation)
    off = make_simulation()
    off["test_loss"] = 2.0 * off["test_loss"]
    points[0] = (*points[0][:3], off)
    figure = panels_figure(points[:3], "alpha", "kappa")
    high, absent, low, right = figure.axes  # by rows, the larger kappa first
    assert "no run" in words_in(absent)
    assert "differs" in words_in(low)
    for axes, point in ((low, points[0]), (high, points[1]), (right, points[2])):
        rows = overlay(*point[2:]).summary()["observables"]
        largest = max(rows[name]["max_abs_z"] for name in ("train_loss", "test_loss"))
        assert f"max $|z|$ {largest:.1f}, " in words_in(axes)
    assert high.get_title() == r"$\alpha = 0.25$"
    assert written(figure, tmp_path / "a") == written(panels_figure(points[:3], "alpha", "kappa"), tmp_path / "b")


def test_one_seed_has_no_verdict(make_theory: Any, make_simulation: Any) -> None:
    (axes,) = panels_figure(pairs(1, 0, make_theory, make_simulation, seeds=1), "alpha").axes
    assert words_in(axes) == "no error"


def test_at_most_six_panels_along_a_field_evenly_chosen(make_theory: Any, make_simulation: Any) -> None:
    figure = panels_figure(pairs(11, 0, make_theory, make_simulation), "dim")
    titles = [axes.get_title() for axes in figure.axes]
    assert titles == [f"$D = {value:.3g}$" for value in np.geomspace(0.25, 8.0, 11)[::2]]
    with pytest.raises(ParameterError, match="at least one point"):
        panels_figure([], "alpha")
