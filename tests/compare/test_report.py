"""The report: everything in one file, true to the data, and alive in a browser."""

import itertools
import json
import re
import shlex
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
import xarray

from compare import overlay
from compare.cli import main
from compare.cli.commands import app
from compare.cli.settings import settle
from compare.report.data import report_data
from compare.report.page import write_report
from compare.report.repeat import command, settings_of
from compare.sweep.measures import ABSENT, State, measure
from compare.sweep.point_file import encode
from dmft import Committee, Model, ParameterError
from sim import Experiment

pytest.importorskip("plotly")

BASE = Model(alpha=1.0, epsilon=0.25, kappa=4.0, dim=100, width=300, initial_overlap=0.1)
SETTINGS = {"t_max": 100.0, "step": "flow", "precision": "float64", "seed": 3, "rtol": 0.03, "seeds": 8, "form": "auto"}
MAP = {"alpha": [0.5, 1.0, 2.0], "kappa": [1.0, 4.0]}
MESSAGE = "no </script><b>convergence</b> at t = 3"
LINE = {"dim": [50, 100, 200, 400]}

#: Five digits are kept.
ROUNDING = 5.01e-5


@pytest.fixture(scope="module")
def folders(tmp_path_factory, make_theory, make_simulation):
    """Folders as `dmft phase` leaves them, over MAP and over LINE, each with its dataset."""
    return {
        name: fill_folder(tmp_path_factory.mktemp(name), axes, make_theory, make_simulation)
        for name, axes in (("map", MAP), ("line", LINE))
    }


def fill_folder(folder, axes, make_theory, make_simulation):
    """Write points and phase.nc over one or two axes (x first); return the folder and the dataset.

    Every second value of each axis is simulated. The curves at an index run slower by 2^(sum of the index), so that
    some losses do not reach the threshold. Theory fails at the index (1, ...), and at the last one nothing is done.
    """
    (folder / "points").mkdir()
    shape = tuple(len(values) for values in axes.values())
    variables = {}
    for side, prefix, every in (("theory", "", 1), ("simulation", "simulation_", 2)):
        tables = {name: np.full(shape, value) for name, value in ABSENT.items()}
        tables |= {name: np.zeros(shape, np.int8) for name in ("state", "tolerance_met")}
        tables |= {name: np.full(shape, "", object) for name in ("message", "point")}
        for index in itertools.product(*map(range, shape)):
            if index == tuple(n - 1 for n in shape) or any(place % every for place in index):
                continue
            name = tables["point"][index] = f"{side}-{'-'.join(map(str, index))}"
            if side == "theory" and index == (1,) * len(shape):
                tables["state"][index], tables["message"][index] = (
                    State.FAILED,
                    MESSAGE,
                )
                continue
            curves = make_theory() if side == "theory" else make_simulation(random=sum(index))
            curves = curves.assign_coords(time=curves["time"] * 2.0 ** sum(index))
            curves = curves.sel(time=curves["time"] <= SETTINGS["t_max"])
            (folder / "points" / f"{name}.nc").write_bytes(encode(curves))
            tables["state"][index], tables["tolerance_met"][index] = State.DONE, 1
            for number, value in measure(curves, 0.1, 3.0).items():
                tables[number][index] = value
        variables |= {prefix + name: (list(axes), table) for name, table in tables.items()}
    fields = {f"model_{name}": value for name, value in BASE.to_attributes().items() if name not in axes}
    names = {"x": next(iter(axes)), "y": [*axes, ""][1]}
    attributes = {**fields, **SETTINGS, **names, "threshold": 0.1, "ratio": 3.0, "version": "0.1", "numerics": "abc"}
    phase = xarray.Dataset(variables, axes, attributes)
    phase.to_netcdf(folder / "phase.nc", engine="h5netcdf")
    return folder, phase


@pytest.fixture
def make_folder(folders, tmp_path):
    """A copy of one of `folders`, by name, to be written into; with its dataset."""

    def make(name):
        source, phase = folders[name]
        return Path(shutil.copytree(source, tmp_path / name, ignore=shutil.ignore_patterns("report.html"))), phase

    return make


@pytest.fixture(scope="module")
def reports(folders):
    """The reports of `folders` and their data, by name."""
    pages = {name: write_report(folder) for name, (folder, _) in folders.items()}
    return {name: (page, data_of(page)) for name, page in pages.items()}


def data_of(page: Path):
    """The data in a report, read as strict JSON."""

    def refuse(constant):
        raise AssertionError(constant)

    text = page.read_text(encoding="utf-8")
    [data] = re.findall(r'<script type="application/json" id="data">(.*?)</script>', text, re.DOTALL)
    return json.loads(data, parse_constant=refuse)


def settled(line):
    """The settings that a command line of `dmft` gives, and its command's name."""
    words = shlex.split(line)
    assert words[0] == "dmft"
    found, bound, _ = app.parse_args(words[1:], exit_on_error=False, print_error=False)
    return found.__name__, settle(bound.kwargs["options"], simulated=found.__name__ != "solve")


def test_every_cell_has_its_own_numbers_and_command(folders, reports):
    _, phase = folders["map"]
    _, data = reports["map"]
    assert [(axis["field"], axis["values"]) for axis in data["axes"]] == list(MAP.items())
    cells = [(i, j) for j in range(2) for i in range(3)]
    assert len(data["cells"]) == len(cells)
    for (i, j), cell in zip(cells, data["cells"], strict=True):
        here = phase.isel(alpha=i, kappa=j)
        for side, prefix in (("theory", ""), ("simulation", "simulation_")):
            assert cell[side]["state"] == here[f"{prefix}state"]
            assert cell[side]["regime"] == here[f"{prefix}regime"]
            for name, (value, error, reached) in cell[side]["numbers"].items():
                for number, key in ((value, name), (error, f"{name}_error")):
                    expected = float(here[prefix + key])
                    assert (number is None) == np.isnan(expected)
                    assert number is None or number == pytest.approx(
                        expected, rel=1e-2 if key.endswith("error") else ROUNDING
                    )
                assert name.endswith("loss") or reached == bool(here[f"{prefix}{name}_reached"])
        if (i, j) == (2, 1):
            assert cell["command"] is None
            continue
        name, settings = settled(cell["command"])
        assert name == ("compare" if i % 2 == j % 2 == 0 else "solve")
        assert settings.model == BASE.replace(alpha=MAP["alpha"][i], kappa=MAP["kappa"][j])
        assert (settings.t_max, settings.step, settings.rtol, settings.seed) == (100.0, None, 0.03, 3)
    assert data["cells"][4]["theory"]["message"] == str(phase["message"][1, 1].values)


def test_curves_and_scores_are_those_of_the_points(folders, reports):
    folder, _ = folders["map"]
    cell = reports["map"][1]["cells"][2]
    runs = {
        side: xarray.load_dataset(folder / "points" / f"{side}-2-0.nc", engine="h5netcdf")
        for side in ("theory", "simulation")
    }
    for side, run in runs.items():
        shown = cell[side]["curves"]
        time = np.array(shown["time"])
        means = run.mean("seed") if "seed" in run.dims else run
        nearest = means.assign({f"{name}_stderr": run[f"{name}_stderr"] for name in ("train_loss", "overlap")})
        nearest = nearest.sel(time=time, method="nearest")
        np.testing.assert_allclose(time, nearest["time"], rtol=ROUNDING)
        assert 30 < time.size <= 120
        assert time[-1] == pytest.approx(float(run["time"][-1]), rel=ROUNDING)
        for name in ("train_loss", "overlap"):
            np.testing.assert_allclose(shown[name]["value"], nearest[name], rtol=ROUNDING)
            np.testing.assert_allclose(shown[name]["error"], nearest[f"{name}_stderr"], rtol=1e-2)
    agreement = overlay(runs["theory"], runs["simulation"])
    for name, row in agreement.summary()["observables"].items():
        shown = cell["agreement"]["rows"][name]
        assert shown["verdict"] == row["verdict"]
        assert (shown["max_abs_z"], shown["threshold"]) == pytest.approx((row["max_abs_z"], row["threshold"]), rel=1e-4)
        if row["time"] > 0.0:  # the worst score is among those drawn
            assert np.max(np.abs(cell["agreement"]["z"][name])) == pytest.approx(row["max_abs_z"], rel=1e-3)


def test_one_file_without_a_network_and_small(make_folder):
    folder, _ = make_folder("map")
    before = set(folder.rglob("*"))
    page = write_report(folder)
    assert set(folder.rglob("*")) - before == {page}
    text = page.read_text(encoding="utf-8")
    assert text.count("</script>") == 3  # that in the message of the failed point is escaped
    assert not re.findall(r"<(?:script|link|img|iframe)[^>]*(?:src|href)=(?!\"data:)", text)
    assert "default-src 'none'" in text
    cells = [len(json.dumps(cell, separators=(",", ":"))) for cell in data_of(page)["cells"]]
    assert len(text) - sum(cells) + 14 * 14 * max(cells) < 15e6


def test_a_point_without_its_file_is_said_in_its_cell_alone(make_folder):
    folder, _ = make_folder("map")
    missing, cut, changed = (folder / "points" / f"theory-{index}-0.nc" for index in range(3))
    missing.unlink()
    cut.write_bytes(cut.read_bytes()[: cut.stat().st_size // 2])
    curves = xarray.load_dataset(changed, engine="h5netcdf")
    (curves + 1.0).assign_attrs(curves.attrs).to_netcdf(changed, engine="h5netcdf")
    cells = data_of(write_report(folder))["cells"]
    for cell, path, word in zip(cells, (missing, cut, changed), ("missing", "damaged", "damaged"), strict=False):
        [note] = cell["notes"]
        assert path.name in note
        assert word in note
        assert "curves" not in cell["theory"]
    assert "curves" in cells[0]["simulation"]
    assert all(not cell["notes"] for cell in cells[3:])


def test_a_folder_of_compare_is_a_report_of_one_point(tmp_path, make_theory, make_simulation):
    attributes = {"t_max": 100.0, "seed": 5, "precision": "float64"}
    make_theory(**attributes, step="flow", rtol=0.01).to_netcdf(tmp_path / "theory.nc", engine="h5netcdf")
    more = {"seeds": 8, "step": "flow", "form": "reduced", "form_requested": "auto"}
    make_simulation(**attributes, **more).to_netcdf(tmp_path / "simulation.nc", engine="h5netcdf")
    data = data_of(write_report(tmp_path))
    assert data["axes"] == []
    assert data["model"] == "A two-layer quadratic network that learns a quadratic rule."
    [cell] = data["cells"]
    assert cell["agreement"]["rows"].keys() >= {"train_loss", "test_loss"}
    name, settings = settled(cell["command"])
    assert (name, settings.step, settings.form, settings.seeds, settings.seed) == ("compare", None, "auto", 8, 5)


def test_the_first_sentence_is_that_of_the_model(tmp_path, make_simulation):
    def own(h):
        return h**2

    committee = Committee(alpha=1.0, kappa=2.0, width=2, activation=own, teacher="erf", dim=100)
    experiment = Experiment(model=BASE.replace(width=10, initial_overlap=0.0), activation="hermite3", target="hermite3")
    for model, says in (
        (committee, r"A committee: its activation is function .*own, its teacher erf\."),
        (experiment, r"A two-layer network: its activation is hermite3, its target hermite3\."),
    ):
        run = make_simulation(**model.to_attributes(), t_max=100.0, seed=5, precision="float64", seeds=8, step="flow")
        run.to_netcdf(tmp_path / "simulation.nc", engine="h5netcdf")
        assert re.fullmatch(says, report_data(tmp_path)["model"])


def test_a_simulation_with_steps_of_its_own_is_a_command_of_its_own():
    settings = {**BASE.to_attributes(), **SETTINGS, "simulation_step": 0.4}
    both = command(settings, theory=True, simulation=True).split(" && ")
    assert both == [command(settings, theory=side, simulation=not side) for side in (True, False)]
    assert both[0].startswith("dmft solve")
    assert "--step" not in both[0]
    assert both[1].startswith("dmft simulate")
    assert "--step 0.4" in both[1]
    same = {**settings, "simulation_step": "flow"}
    assert command(same, theory=True, simulation=True) == command(
        {**BASE.to_attributes(), **SETTINGS}, theory=True, simulation=True
    )


@pytest.mark.parametrize(
    ("model", "step", "sides"),
    [
        (Model(alpha=0.1 + 0.2, epsilon=0.0, kappa=1e-3), None, {"theory"}),
        (BASE.replace(centered=True, label_noise=1e-7, weight_decay=1 / 3), 0.05, {"theory", "simulation"}),
        (BASE.replace(width=None, initial_overlap=0.0, dim=12345678), 1e-5, {"simulation"}),
    ],
)
def test_commands_give_every_setting_to_the_last_digit(model, step, sides):
    values = {
        "t_max": 1e6 / 3,
        "step": step,
        "precision": "float32",
        "seed": 2**40,
        "rtol": 0.1,
        "seeds": 3,
        "form": "auto",
    }
    line = command(model.to_attributes() | values, theory="theory" in sides, simulation="simulation" in sides)
    _, settings = settled(line)
    assert settings.model == model
    taken = {"t_max", "step", "rtol", "precision", "seed"} | ({"seeds", "form"} if "simulation" in sides else set())
    assert {name: getattr(settings, name) for name in taken} == {name: values[name] for name in taken}


@pytest.mark.parametrize(
    ("rule", "sides"),
    [
        ({"optimizer": "nesterov", "momentum": 0.8, "schedule": "cosine", "warmup": 0}, ("theory", "simulation")),
        ({"optimizer": "gd", "schedule": "constant", "warmup": 3}, ("theory", "simulation")),
        ({"optimizer": "adam", "batch_size": 20, "replacement": 1}, ("simulation",)),
        ({"optimizer": "adam"}, ("theory", "simulation")),
        ({"optimizer": "optax", "optimizer_code": "abc"}, ("simulation",)),
        ({"optimizer": "gd", "schedule": "array"}, ("theory",)),
    ],
)
def test_the_command_of_a_report_has_the_rule_of_descent(tmp_path, make_theory, make_simulation, rule, sides):
    attributes = {"t_max": 100.0, "seed": 5, "precision": "float64", "step": 0.5, "width": 100, **rule}
    if "theory" in sides:
        make_theory(**attributes, rtol=0.01).to_netcdf(tmp_path / "theory.nc", engine="h5netcdf")
    if "simulation" in sides:
        more = {"seeds": 8, "form": "network", "form_requested": "network"}
        make_simulation(**attributes, **more).to_netcdf(tmp_path / "simulation.nc", engine="h5netcdf")
    [cell] = report_data(tmp_path)["cells"]
    if rule["optimizer"] == "optax" or rule.get("schedule") == "array" or (rule["optimizer"] == "adam" and sides[1:]):
        assert cell["command"] is None
        return
    assert settled(cell["command"])[1].optimizer.to_attributes() == rule


def test_the_command_in_a_report_repeats_the_numbers(tmp_path):
    asked = "simulate --alpha 0.7 --epsilon 0.3 --kappa 2 --dim 8 --t-max 0.5 --seeds 2 --seed 4 --label-noise 0.1"
    assert main([*asked.split(), "--out", str(tmp_path / "first")]) == 0
    [cell] = data_of(write_report(tmp_path / "first"))["cells"]
    assert main([*shlex.split(cell["command"])[1:], "--out", str(tmp_path / "second")]) == 0
    first, second = (
        xarray.load_dataset(tmp_path / name / "simulation.nc", engine="h5netcdf") for name in ("first", "second")
    )
    xarray.testing.assert_identical(first, second)
    assert settings_of(first.attrs)["step"] == "flow"


@pytest.mark.parametrize("damage", ["no folder", "empty", "cut off", "text", "variable", "attribute"])
def test_a_folder_that_cannot_be_shown_is_refused_in_one_line(damage, tmp_path, make_folder, capsys):
    folder = tmp_path
    if damage == "no folder":
        folder = tmp_path / "nowhere"
    elif damage != "empty":
        folder, phase = make_folder("line")
        path = folder / "phase.nc"
        if damage == "cut off":
            path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
        elif damage == "text":
            path.write_text("no data")
        else:
            if damage == "variable":
                phase = phase.drop_vars("delay")
            else:
                del phase.attrs["x"]
            phase.to_netcdf(path, engine="h5netcdf")
    assert main(["report", str(folder)]) == 2
    [line] = capsys.readouterr().err.splitlines()
    assert line.startswith("dmft: Argument `folder` must be a folder written by `dmft phase` or `dmft compare`")
    expected = {"variable": "delay", "attribute": "lacks 'x'", "no folder": "nowhere", "empty": "neither phase.nc"}
    assert expected.get(damage, "cannot be read") in line
    assert not (folder / "report.html").exists()


def test_without_plotly_it_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "plotly.offline", None)
    with pytest.raises(ParameterError, match=r"pip install 'dmft-learning\[report\]'"):
        write_report(tmp_path)
    assert not list(tmp_path.iterdir())


# In a browser


@pytest.fixture
def open_report(browser, reports):
    """Open one of `reports`; at the end nothing may have been said on the console or requested."""

    def show(name):
        page, data = reports[name]
        browser.get(page.as_uri())
        return browser, data

    yield show
    assert browser.get_log("browser") == []
    messages = [json.loads(entry["message"])["message"] for entry in browser.get_log("performance")]
    sent = [message["params"] for message in messages if message["method"] == "Network.requestWillBeSent"]
    # The browser's own start page asks for things too.
    requested = [request["request"]["url"] for request in sent if request["documentURL"].startswith("file:")]
    assert requested, "the log of requests holds at least the page itself"
    assert not [url for url in requested if not url.startswith(("file:", "data:", "blob:"))]


def click_at(browser, x, y=None):
    """Click with the mouse on the diagram, at the place of value `x` (and `y`) on its axes."""
    from selenium.webdriver import ActionChains

    script = """
    const diagram = document.getElementById("diagram"), box = diagram.getBoundingClientRect();
    diagram.scrollIntoView({block: "center"});
    const {xaxis, yaxis} = diagram._fullLayout, [i, j] = arguments;
    const up = j === null ? diagram._fullLayout.yaxis2 : yaxis;
    return [xaxis._offset + xaxis.d2p(page.axes[0].places[i]) - box.width / 2,
            up._offset + up.d2p(j === null ? 0 : page.axes[1].places[j]) - box.height / 2];
    """
    right, down = browser.execute_script(script, x, y)
    diagram = browser.find_element("id", "diagram")
    ActionChains(browser).move_to_element_with_offset(diagram, round(right), round(down)).pause(0.1).click().perform()


def drawn(browser, panel):
    """What plotly draws in `panel`: y by the name of the trace."""
    script = f"return document.getElementById('{panel}').data.map((trace) => [trace.name, Array.from(trace.y ?? [])])"
    return dict(browser.execute_script(script))


def text(browser, name):
    return browser.find_element("id", name).text


def test_a_click_shows_the_curves_of_that_cell(open_report):
    browser, data = open_report("map")
    assert text(browser, "where") == "α = 0.5, κ = 1"
    for place, (x, y) in ((2, (2, 0)), (3, (0, 1)), (0, (0, 0))):
        click_at(browser, x, y)
        assert text(browser, "where") == f"α = {MAP['alpha'][x]:g}, κ = {MAP['kappa'][y]:g}"
        cell = data["cells"][place]
        assert drawn(browser, "losses")["train loss"] == cell["theory"]["curves"]["train_loss"]["value"]
        assert text(browser, "command") == cell["command"]
        simulated = "curves" in cell["simulation"]
        assert ("train loss, simulation" in drawn(browser, "losses")) == simulated
        assert browser.find_element("id", "zscores-box").is_displayed() == simulated
        assert ("differs" in text(browser, "verdicts") or "agrees" in text(browser, "verdicts")) == simulated
    click_at(browser, 1, 1)  # failed
    assert "The theory failed: no </script><b>convergence</b> at t = 3" in text(browser, "messages")
    assert not browser.find_element("id", "panels").is_displayed()
    click_at(browser, 2, 1)  # nothing there yet: a gap of the heat map
    assert "not computed" in text(browser, "messages")
    assert not browser.find_element("id", "repeat").is_displayed()


def test_quantities_and_sides_are_switched_by_buttons_and_keys(open_report):
    from selenium.webdriver import Keys

    browser, data = open_report("map")

    def heat():
        return browser.execute_script("return document.getElementById('diagram').data[0].z.flat()")

    regimes = [cell["theory"]["regime"] or None for cell in data["cells"]]
    assert heat() == regimes
    browser.find_element("css selector", "input[value=regime]").send_keys(Keys.ARROW_RIGHT)  # the next one: delay
    delays = [cell["theory"]["numbers"]["delay"][0] for cell in data["cells"]]
    assert [value is None for value in heat()] == [delay is None for delay in delays] != [False] * 6
    browser.find_element("xpath", "//label[contains(., 'final test loss')]").click()
    losses = [cell["theory"]["numbers"]["final_test_loss"][0] for cell in data["cells"]]
    np.testing.assert_allclose(
        [10**z for z in heat() if z is not None], [v for v in losses if v is not None], rtol=1e-9
    )
    browser.find_element("xpath", "//label[contains(., 'simulation')]").click()
    assert [value is None for value in heat()] == [cell["simulation"]["state"] != State.DONE for cell in data["cells"]]
    frame = browser.find_element("id", "diagram-frame")
    frame.send_keys(Keys.ARROW_RIGHT)
    frame.send_keys(Keys.ARROW_RIGHT)
    assert text(browser, "where") == "α = 2, κ = 1"
    frame.send_keys(Keys.ARROW_RIGHT)  # no further
    frame.send_keys(Keys.ARROW_UP)
    assert text(browser, "where") == "α = 2, κ = 4"
    browser.find_element("id", "choose-x").send_keys("0.5")
    assert text(browser, "where") == "α = 0.5, κ = 4"


def test_one_axis_is_a_line_of_points_to_click_on(open_report):
    browser, data = open_report("line")
    click_at(browser, 1)
    assert text(browser, "where") == "D = 100"
    assert "The theory failed" in text(browser, "messages")
    browser.find_element("xpath", "//label[contains(., 'time to train')]").click()
    times = [cell["theory"]["numbers"]["t_train"][0] for cell in data["cells"]]
    assert drawn(browser, "diagram")["theory"] == times
    assert None in times
    browser.find_element("id", "choose-x").send_keys("200")
    assert drawn(browser, "losses")["test loss"] == data["cells"][2]["theory"]["curves"]["test_loss"]["value"]
    assert "--dim 200" in text(browser, "command")


def test_legends_hide_curves_and_the_command_is_copied(open_report):
    browser, _ = open_report("map")
    hidden = "return document.getElementById('losses').data.filter((trace) => trace.visible === false).length"
    button = browser.find_element("css selector", "#losses-legend button")
    button.click()
    assert browser.execute_script(hidden) == 4  # two edges of a band, the line, the points
    click_at(browser, 2, 0)
    assert browser.execute_script(hidden) == 4
    browser.find_element("css selector", "#losses-legend button").click()
    assert browser.execute_script(hidden) == 0
    browser.find_element("id", "copy").click()
    assert text(browser, "copied") == "copied"


def test_a_telephone_shows_it_without_scrolling_sideways(open_report):
    browser, _ = open_report("map")
    size = {"width": 400, "height": 800, "deviceScaleFactor": 1, "mobile": True}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    try:
        browser.refresh()
        assert browser.execute_script("return document.documentElement.scrollWidth") <= 400
        assert browser.execute_script("return document.querySelector('#diagram .plot-container').offsetWidth") > 300
        click_at(browser, 2, 0)
        assert text(browser, "where") == "α = 2, κ = 1"
    finally:
        browser.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
