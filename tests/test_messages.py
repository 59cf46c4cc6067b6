"""What somebody is told who calls a thing by another name, leaves names out, or names a place that takes no file."""

import jax.numpy as jnp
import numpy as np
import pandas
import pytest
import xarray

from compare import grokking_delay, overlay, phase_diagram, read_run
from compare.cli import main
from dmft import Committee, Model, ParameterError, solve
from sim import Experiment, simulate

MODEL = Model(alpha=1, epsilon=0.5, kappa=3)
RUN = {"time": np.arange(5.0), "train_loss": np.ones(5), "test_loss": np.ones(5)}


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: solve(MODEL, tmax=5), "`tmax` is none of solve; did you mean `t_max`?"),
        (lambda: solve(MODEL, 5, lr=0.1), "`lr` is none of solve; did you mean `step`?"),
        (lambda: solve(MODEL, 5, 0.1), "Arguments of solve must be given by name, such as step=0.1,"),
        (lambda: simulate(MODEL, epochs=5), "`epochs` is none of simulate; did you mean `t_max`?"),
        (
            lambda: Model(alpha=1, epsilon=0, kappa=3, intial_overlap=0.1),
            "none of Model; did you mean `initial_overlap`?",
        ),
        (lambda: MODEL.replace(intial_overlap=0.1), "no field of Model; did you mean `initial_overlap`?"),
        (lambda: Model(1, 0.5, 3), "Arguments of Model must be given by name, such as alpha=1, epsilon=0.5, kappa=3,"),
        (lambda: Model(alpha=1, epsilon=0, kappa=3, colour=1), "`colour` is none of Model; allowed: alpha, epsilon,"),
        (lambda: Committee(alpha=1, kappa=3, widht=2), "did you mean `width`?"),
        (lambda: Experiment(model=MODEL, activaton="quadratic"), "did you mean `activation`?"),
        (lambda: overlay(RUN, RUN, sigificance=0.1), "did you mean `significance`?"),
        (lambda: grokking_delay(RUN, treshold=0.1), "did you mean `threshold`?"),
        (lambda: read_run(RUN, trian="loss"), "did you mean `train`?"),
        (lambda: phase_diagram(MODEL, ("alpha", [1]), tmax=1), "did you mean `t_max`?"),
        (lambda: overlay(RUN, {**RUN, "time": [0, 1, 3, 2, 1]}), "but 3 is followed by 2."),
        (
            lambda: overlay(RUN, pandas.DataFrame(RUN).drop(columns="test_loss")),
            "`test_loss`, but holds time, train_loss.",
        ),
    ],
)
def test_what_is_called_by_another_name_is_named(call, message):
    with pytest.raises(ParameterError) as error:
        call()
    assert message in str(error.value)
    assert len(str(error.value)) < 250


@pytest.mark.parametrize("number", [np.float64(100.0), jnp.float32(100.0), 100.0, np.int32(100), xarray.DataArray(100)])
def test_numbers_of_every_kind_are_taken(number):
    assert Model(alpha=number, epsilon=0.5, kappa=3, dim=number).dim == 100


@pytest.mark.parametrize("place", ["nowhere/x.png", "file/x.png", "folder.png"])
def test_a_picture_that_cannot_be_written_is_named_as_given(place, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").touch()
    (tmp_path / "folder.png").mkdir()
    with pytest.raises(ParameterError, match=f"`path` must be a file in a folder that can be written, but '{place}'"):
        overlay(RUN, RUN).plot(place)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "folder.png"]


def test_a_file_in_the_place_of_a_folder(tmp_path, capsys):
    (tmp_path / "file").touch()
    with pytest.raises(ParameterError, match="`folder` must be a folder that can be written, but is"):
        phase_diagram(MODEL, ("alpha", [1]), t_max=0.4, step=0.2, folder=tmp_path / "file")
    assert main(["report", str(tmp_path / "file")]) == 2
    assert "`folder` must be a folder written by" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("option", "name"),
    [("--lr", "--step"), ("--learning-rate", "--step"), ("--epochs", "--t-max"), ("--horizon", "--t-max")],
)
def test_options_of_other_programs_are_named(option, name, capsys):
    assert main(["simulate", option, "3"]) == 2
    assert capsys.readouterr().err == f"dmft: Unknown option: {option}. Did you mean {name}?\n"
