"""The page of sliders: true to theory and sweep, computing what is asked for once, for this machine alone."""

import json
import os
import signal
import subprocess
import sys
import time
from urllib.error import HTTPError
from urllib.parse import urlencode
from urllib.request import Request, urlopen

import numpy as np
import pytest
import xarray

import dmft
from compare import explore, grokking_delay
from compare.cli import main
from compare.report.knobs import STAGES, Live, Stored, answer, largest_error
from compare.sweep.point_file import encode
from dmft import Model, ParameterError, RunError

pytest.importorskip("plotly")

MODEL = Model(alpha=1.0, epsilon=0.5, kappa=3.0, dim=80, initial_overlap=0.1)
FIELDS = ("alpha", "epsilon", "kappa", "initial_overlap", "t_max")
BEGIN = {"alpha": 1.0, "epsilon": 0.5, "kappa": 3.0, "initial_overlap": 0.1, "t_max": 20.0}
ALPHAS = (2.0, 0.5)


@pytest.fixture
def solved(monkeypatch, make_theory):
    """`dmft.solve` at once; what it was asked for."""
    calls = []

    def solve(model, t_max, **settings):
        calls.append((model, t_max, settings))
        if model.kappa > 20:
            raise RunError("no convergence")
        time.sleep(0.05)
        return make_theory(relative_error=settings["rtol"] / 2, tolerance_met=1) * model.alpha

    monkeypatch.setattr(dmft, "solve", solve)
    return calls


@pytest.fixture
def page(solved):  # noqa: ARG001
    with_sliders = explore(MODEL, t_max=20.0)
    yield with_sliders
    with_sliders.close()


@pytest.fixture
def sweep(tmp_path, make_theory, make_simulation):
    """A folder of two values of alpha, the first of which is simulated too, and its theories."""
    (tmp_path / "points").mkdir()
    theories = {alpha: make_theory() * (1.0 + alpha) for alpha in ALPHAS}
    for alpha, curves in theories.items():
        (tmp_path / "points" / f"theory-{alpha}.nc").write_bytes(encode(curves.assign_attrs(kind="theory")))
    (tmp_path / "points" / "simulation.nc").write_bytes(encode(make_simulation()))
    names = {"point": [f"theory-{alpha}" for alpha in ALPHAS], "simulation_point": ["simulation", ""]}
    variables = {name: ("alpha", np.array(texts, object)) for name, texts in names.items()}
    attributes = {"x": "alpha", "y": "", "t_max": 100.0, "model_kappa": 4.0, "threshold": 0.1, "ratio": 3.0}
    xarray.Dataset(variables, {"alpha": list(ALPHAS)}, attributes).to_netcdf(tmp_path / "phase.nc", engine="h5netcdf")
    return tmp_path, theories


def ask(page, host=None, **query):
    """What the page is answered."""
    request = Request(f"{page.url}curves?{urlencode(query)}", headers={"Host": host} if host else {})
    with urlopen(request, timeout=10) as answered:
        return json.loads(answered.read(), parse_constant=pytest.fail)


@pytest.mark.parametrize("model", [MODEL, MODEL.replace(epsilon=0.0, initial_overlap=0.0, kappa=0.37)])
def test_sliders_begin_at_the_model(model):
    begins = {slider.field: slider.values[slider.at] for slider in Live(model, 7.0).sliders}
    assert begins == {name: getattr(model, name) for name in FIELDS[:-1]} | {"t_max": 7.0}
    for slider in Live(model, 7.0).sliders:
        assert slider.values == sorted(set(slider.values))
        assert 40 < len(slider.values) < 100


def test_the_model_of_the_sliders_is_solved_as_the_stage_asks(solved):
    live = Live(MODEL, 20.0)
    for stage, settings in enumerate(STAGES):
        found = answer(live, BEGIN | {"alpha": 0.5, "t_max": 3.0}, stage)
        model, t_max, given = solved[-1]
        assert (model, t_max) == (MODEL.replace(alpha=0.5), 3.0)
        assert settings.items() <= given.items()
        assert found["error"] == pytest.approx(settings["rtol"] / 2, rel=0.1)
        assert found["seconds"] > 0.04
    assert live.about["dim"] == 80
    assert "alpha" not in live.about


def test_the_error_is_relative_to_the_tolerance_of_a_solve(make_theory):
    """`error` <= rtol is what a solve with atol = rtol / 1000 calls met."""
    from compare.curves import read_side

    theory = make_theory(relative_error=0.02)
    assert largest_error(read_side("theory", theory)) == pytest.approx(0.02, rel=1e-2)
    theory["test_loss_error"] = 0.5e-3 * theory.test_loss[0] + 0.0 * theory.test_loss
    ratio = 0.5e-3 / (theory.test_loss / theory.test_loss[0] + 1e-3)
    assert largest_error(read_side("theory", theory)) == pytest.approx(max(0.02, float(ratio.max())), rel=2e-2)


def test_a_sweep_is_shown_and_nothing_is_computed(sweep, solved):
    folder, theories = sweep
    knobs = Stored(folder)
    assert [(slider.field, slider.values[:2]) for slider in knobs.sliders[:1]] == [("alpha", [0.5, 2.0])]
    assert (knobs.sliders[1].field, knobs.sliders[1].values[-1]) == ("t_max", 100.0)
    assert knobs.about == {"kappa": 4.0}
    for alpha, simulated in zip(ALPHAS, (True, False), strict=True):
        found = answer(knobs, {"alpha": alpha, "t_max": 30.0}, 0)
        shown, whole = found["theory"]["curves"], theories[alpha]
        assert ("simulation" in found) == simulated
        assert 29.0 < shown["time"][-1] <= 30.0
        nearest = whole.test_loss.sel(time=shown["time"], method="nearest")
        np.testing.assert_allclose(shown["test_loss"]["value"], nearest, rtol=1e-4)
        times = grokking_delay(whole.sel(time=slice(0.0, 30.0)))
        assert (f"{times.t_train.value:.4g}" in found["numbers"]) == times.t_train.reached
    assert solved == []
    phase = xarray.load_dataset(folder / "phase.nc", engine="h5netcdf").assign_attrs(threshold=0.5, ratio=50.0)
    phase.to_netcdf(folder / "phase.nc", engine="h5netcdf")
    found = answer(Stored(folder), {"alpha": 0.5, "t_max": 100.0}, 0)["numbers"]  # as the sweep measures
    assert f"{grokking_delay(theories[0.5], 0.5).t_test.value:.4g}" in found
    assert "test loss reaches 0.5" in found
    assert "generalises" in found
    (folder / "points" / "theory-0.5.nc").unlink()
    assert "no curves" in answer(knobs, {"alpha": 0.5, "t_max": 30.0}, 0)["message"]


def test_a_sweep_of_accuracies_is_shown_by_them(sweep, make_theory):
    folder, _ = sweep
    curves = make_theory()
    for name in ("train", "test"):
        curves[f"{name}_accuracy"] = 1.0 - 0.5 * np.exp(
            -curves[f"{name}_loss"].time / (2.0 if name == "train" else 20.0)
        )
    (folder / "points" / "theory-0.5.nc").write_bytes(encode(curves.assign_attrs(kind="theory")))
    phase = xarray.load_dataset(folder / "phase.nc", engine="h5netcdf").assign_attrs(of="accuracy")
    phase.to_netcdf(folder / "phase.nc", engine="h5netcdf")
    found = answer(Stored(folder), {"alpha": 0.5, "t_max": 100.0}, 0)["numbers"]
    assert "test share of wrong signs reaches 0.1" in found
    assert f"{grokking_delay(curves, 0.1, of='accuracy').t_test.value:.4g}" in found


def test_a_page_and_its_curves_are_served_to_this_machine(page, solved):
    with urlopen(page.url, timeout=10) as answered:
        text = answered.read().decode()
    assert "Plotly" in text
    assert "<!--" not in text.replace("<!--[", "").split("<script>")[0]
    assert page.url in page._repr_html_()
    assert page.url in repr(page)
    found = ask(page, **BEGIN, stage=0)
    assert found["theory"]["curves"].keys() > {"time", "train_loss", "test_loss"}
    assert "groks" in found["numbers"]
    assert ask(page, **BEGIN, stage=0) == found
    assert len(solved) == 1
    assert ask(page, **(BEGIN | {"kappa": 21.0}), stage=0) == {"message": "no convergence"}
    assert "Argument `alpha`" in ask(page, **(BEGIN | {"alpha": -1}), stage=0)["message"]
    assert "Ask for numbers of alpha" in ask(page, alpha="x")["message"]


def test_others_are_refused(page):
    for host, path, code in (("example.org", "", 403), ("127.0.0.1", "etc/passwd", 404)):
        with pytest.raises(HTTPError) as refused:
            urlopen(Request(page.url + path, headers={"Host": host}), timeout=10)
        assert refused.value.code == code


def test_what_cannot_be_explored_is_named(tmp_path, page, capsys):
    port = page.url.rsplit(":", 1)[1].strip("/")
    for arguments, message in (
        ({}, "`model` or `folder` must be given"),
        ({"model": MODEL, "folder": tmp_path}, "not both"),
        ({"model": 3}, "`model` must be a dmft.Model"),
        ({"model": MODEL, "t_max": 0.0}, "`t_max` must be"),
        ({"folder": tmp_path}, "must hold a sweep of `dmft phase`"),
        ({"folder": tmp_path / "none"}, "is none"),
        ({"model": MODEL, "port": int(port)}, f"`port` must be a free one of this machine, but is {port}"),
        ({"model": MODEL, "port": 10**6}, "`port` must be a free one"),
    ):
        with pytest.raises(ParameterError, match=message):
            explore(**arguments)
    assert main(["explore", str(tmp_path), "--alpha", "1"]) == 2
    assert "`alpha` must be left out with a folder" in capsys.readouterr().err
    assert main(["explore", "--alpha", "1"]) == 2
    assert "`epsilon` must be given too" in capsys.readouterr().err


def test_the_command_serves_until_it_is_interrupted(sweep):
    folder, _ = sweep
    command = [sys.executable, "-m", "compare.cli", "explore", str(folder), "--no-browser"]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}

    def interruptible():
        """A shell's background jobs ignore Ctrl-C, and so would their children."""
        signal.signal(signal.SIGINT, signal.SIG_DFL)

    with subprocess.Popen(
        command, stdout=-1, stderr=-1, text=True, env=environment, preexec_fn=interruptible
    ) as process:
        try:
            line = process.stdout.readline()
            assert line.startswith("to be opened in a browser: http://127.0.0.1:")
            with urlopen(line.split()[6], timeout=10) as answered:
                assert b"A sweep over alpha" in answered.read()
            process.send_signal(signal.SIGINT)
            _, said = process.communicate(timeout=10)
        finally:
            process.kill()
    assert process.returncode == 130
    assert "the page is closed, and nothing of it is kept; it comes back with: dmft explore" in said


# In a browser


def move(browser, field, places):
    """Move a slider by so many keys; where it stands then, in words."""
    from selenium.webdriver import Keys

    slider = browser.find_element("id", field)
    slider.send_keys(*[Keys.ARROW_RIGHT if places > 0 else Keys.ARROW_LEFT] * abs(places))
    return slider.get_attribute("aria-valuetext")


def until(condition, seconds=10.0):
    """Wait for what the page does by itself."""
    end = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < end
        time.sleep(0.02)
    return found


def losses(browser):
    """The drawn test loss, once it is there."""
    script = "return document.getElementById('losses').data?.find((trace) => trace.name === 'test loss')?.y"
    return np.array(until(lambda: browser.execute_script(script)), float)


def at_rest(browser):
    """What the page says of its errors when it shows where the sliders stand, and nothing better follows."""

    def said():
        fresh = not browser.find_element("id", "panels").get_attribute("class")
        text = browser.find_element("id", "status").text
        return text if fresh and text.endswith((" s.", "stored.")) else None

    return until(said)


def test_a_slider_draws_roughly_and_then_better(browser, page, solved):
    browser.get(page.url)
    assert at_rest(browser).startswith("Losses known to 1 %, in 0.0")
    first = losses(browser)
    assert len(solved) == len(STAGES)
    assert move(browser, "alpha", 4) == "α = 1.26"
    at_rest(browser)
    np.testing.assert_allclose(losses(browser), 1.26 * first, rtol=1e-3)
    settings = [settings["rtol"] for model, _, settings in solved if model.alpha == 1.26]
    assert settings == [stage["rtol"] for stage in STAGES]
    count = len(solved)
    move(browser, "alpha", -4)
    at_rest(browser)
    np.testing.assert_allclose(losses(browser), first)
    assert {call[0].alpha for call in solved[count:]} <= {1.06, 1.12, 1.19}  # where it was, is known
    move(browser, "kappa", 40)
    assert "no convergence" in until(lambda: browser.find_element("id", "message").text)
    assert browser.get_log("browser") == []


def test_sliders_of_a_sweep_show_its_points(browser, sweep):
    folder, theories = sweep
    stored = explore(folder=folder)
    browser.get(stored.url)
    assert move(browser, "alpha", -1) == "α = 0.5"
    assert "as stored" in at_rest(browser)
    assert losses(browser)[0] == pytest.approx(float(theories[0.5].test_loss[1]), rel=0.05)
    assert move(browser, "t_max", -10) == "t = 56.2"
    at_rest(browser)
    ends = "return document.getElementById('losses').data[0].x.at(-1)"
    assert 50.0 < browser.execute_script(ends) <= 56.3
    assert browser.get_log("browser") == []
    stored.close()
