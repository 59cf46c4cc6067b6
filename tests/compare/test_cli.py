"""The command line: what it writes, what it refuses and how it ends."""

import json
import os
import subprocess
import sys
import warnings

import numpy as np
import pandas
import pytest
import xarray

import dmft
import sim
from compare import overlay
from compare.cli import main
from compare.cli.options import BUILT_IN_CASE, DEFAULTS, CompareOptions, SimulateOptions, SolveOptions
from compare.cli.settings import settle
from dmft import Model, ParameterError
from dmft.models.model import field_names


@pytest.fixture
def fake_runs(monkeypatch, make_theory, make_simulation):
    """`solve` and `simulate` replaced by instant ones that record their arguments."""
    calls = {}

    def solve(model, t_max, **options):
        calls["solve"] = (model, t_max, options)
        calls.setdefault("dims", []).append(("solve", model.dim, options["spread"]))
        return make_theory()

    def simulate(model, t_max, **options):
        calls["simulate"] = (model, t_max, options)
        calls.setdefault("dims", []).append(("simulate", model.dim, options["seeds"]))
        return make_simulation(seeds=options["seeds"])

    monkeypatch.setitem(vars(dmft), "solve", solve)
    monkeypatch.setitem(vars(sim), "simulate", simulate)
    return calls


def run(*arguments):
    """The command line in a fresh process."""
    return subprocess.run(
        [sys.executable, "-m", "compare.cli", *arguments],
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )


def one_line(text):
    """The single line of an error, without a traceback."""
    lines = text.splitlines()
    assert len(lines) == 1, text
    assert lines[0].startswith("dmft: ")
    return lines[0]


def test_help_and_usage_errors_import_nothing_heavy():
    code = (
        "import sys; from compare.cli import main\n"
        "codes = [main(['--help']), main(['compare', '--help']), main(['solve', '--alpha', '-1'])]\n"
        "heavy = {'jax', 'xarray', 'matplotlib', 'numpy', 'scipy'} & set(sys.modules)\n"
        "print(codes, heavy); sys.exit(bool(heavy) or codes != [0, 0, 2])"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stdout[-200:] + result.stderr
    for option in ("--initial-overlap", "--centered", "--rtol", "--seeds", "--config", "--t-max", "--step"):
        assert option in result.stdout


def test_version(capsys):
    assert main(["--version"]) == 0
    assert capsys.readouterr().out.strip() == dmft.__version__


def test_bad_usage_ends_a_process_with_code_2_and_one_line(tmp_path):
    result = run("solve", "--alpha", "-1", "--out", str(tmp_path / "results"))
    assert (result.returncode, result.stdout) == (2, "")
    assert one_line(result.stderr) == "dmft: Argument `alpha` must be a finite number > 0, but is -1."
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["solve", "--kappa", "0"], ["`kappa`", "> 0", "is 0"]),
        (["solve", "--kappa", "nan"], ["`kappa`", "finite", "nan"]),
        (["solve", "--alpha", "1"], ["`epsilon`", "must be given"]),
        (["solve", "--epsilon", "abc"], ["--epsilon", "abc", "float"]),
        (["solve", "--dim", "1.5"], ["--dim", "integer", "1.5"]),
        (["solve", "--dim", "1"], ["`dim`", ">= 2", "is 1"]),
        (["solve", "--width", "0"], ["`width`", ">= 1", "is 0"]),
        (["solve", "--t-max", "0"], ["`t_max`", "> 0", "is 0"]),
        (["solve", "--step", "-0.1"], ["`step`", "> 0", "-0.1"]),
        (["solve", "--step", "2000"], ["`step`", "t_max = ", "2000"]),
        (["solve", "--max-seconds", "0"], ["`max_seconds`", "> 0", "is 0"]),
        (["solve", "--rtol", "0"], ["`rtol`", "> 0", "is 0"]),
        (["solve", "--precision", "half"], ["--precision", "half", "float32"]),
        (["solve", "--seed", "-1"], ["`seed`", ">= 0", "-1"]),
        (["solve", "--centered=perhaps"], ["--centered", "perhaps", "bool"]),
        (["solve", "--seeds", "3"], ["--seeds", "Unknown option"]),
        (["solve", "--alph", "1"], ["--alph", "Did you mean"]),
        (["solve", "--alpha"], ["--alpha", "requires an argument"]),
        (["solve", "surplus"], ["surplus"]),
        (["solve", "--config", "missing.toml"], ["`config`", "missing.toml", "No such file"]),
        (["simulate", "--alpha", "1", "--epsilon", "0.5", "--kappa", "3"], ["`dim`", "integer >= 2", "infinite"]),
        (["simulate", "--seeds", "0"], ["`seeds`", ">= 1", "is 0"]),
        (["simulate", "--form", "fast"], ["--form", "fast", "reduced"]),
        (["simulate", "--form", "network"], ["`form`", "reduced", "network"]),
        (["simulate", "--optimizer", "sgd"], ["--optimizer", "sgd", "gd", "momentum", "nesterov", "adam", "adamw"]),
        (["simulate", "--momentum", "0.5"], ["`momentum`", "0.5"]),
        (["simulate", "--batch-size", "0"], ["`batch_size`", ">= 1", "is 0"]),
        (["simulate", "--replacement"], ["`replacement`", "`batch_size`"]),
        (["simulate", "--schedule", "steps"], ["--schedule", "steps", "cosine"]),
        (["simulate", "--warmup", "-1"], ["`warmup`", ">= 0", "-1"]),
        (["simulate", "--stop-below", "0.1"], ["`stop_below`", "test_loss=0.1", "'0.1'"]),
        (["simulate", "--checkpoint-every", "-1"], ["`checkpoint_every`", ">= 0", "-1"]),
        (["compare", "--optimizer", "adam"], ["`optimizer`", "gd, momentum, nesterov", "'adam'"]),
        (["solve", "--optimizer", "momentum"], ["`momentum`", "gradient flow", "give `step`"]),
        (["compare", "--second-dim", "100"], ["`second_dim`", "another size", "100"]),
        (["solve", "--warmup", "5"], ["`warmup`", "gradient flow", "is 5", "give `step`"]),
        (["compare", "--second-dim", "3", "--strengths", "1,0.5"], ["`dim`", ">= 4", "is 3"]),
        (["compare", "--dims", "2,100", "--strengths", "1,0.5"], ["`dim`", ">= 4", "is 2"]),
        (["compare", "--second-dim", "1"], ["`second_dim`", ">= 2", "1"]),
        (["compare", "--dims", "50,100", "--second-dim", "20"], ["`second_dim`", "left out with `dims`"]),
        (["compare", "--dims", "50,100", "--momentum", "0.5"], ["`momentum`", "left out with `dims`"]),
        (["compare", "--dim", "10", "--kappa", "0.01"], ["`kappa`", "0.05"]),
        (["nothing"], ["nothing", "solve", "compare"]),
    ],
)
def test_bad_usage_names_argument_value_and_what_is_allowed(arguments, words, tmp_path, monkeypatch, fake_runs, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(arguments) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    line = one_line(captured.err)
    assert all(word in line for word in words), line
    assert not fake_runs
    assert not list(tmp_path.iterdir())


def test_folders_that_cannot_be_written_are_refused_before_the_run(tmp_path, fake_runs, capsys):
    (tmp_path / "file").write_text("mine")
    for out in (tmp_path / "file", tmp_path / "file" / "below"):
        assert main(["compare", "--out", str(out)]) == 2
        line = one_line(capsys.readouterr().err)
        assert "`out`" in line
        assert str(out) in line
    assert main(["compare", "--out", ""]) == 2
    assert not fake_runs
    assert (tmp_path / "file").read_text() == "mine"


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"alhpa = 1.0\n", ["`alhpa`", "allowed", "alpha"]),
        (b"kernels = true\n", ["`kernels`", "no option here"]),
        (b"[model]\nalpha = 1.0\n", ["`model`", "no option"]),
        (b"alpha = \n", ["`config`", "line 1"]),
        (b"\xff\xfe\n", ["`config`", "utf-8"]),
        (b'alpha = "one"\n', ["`alpha`", "'one'"]),
        (b"alpha = true\n", ["`alpha`", "True"]),
        (b"dim = 10.5\n", ["`dim`", "10.5"]),
        (b"centered = 1\n", ["`centered`", "True or False", "1"]),
        (b"t_max = 'long'\n", ["`t_max`", "'long'"]),
        (b"seeds = 0\n", ["`seeds`", "is 0"]),
        (b"out = 3\n", ["`out`", "3"]),
        (b"precision = 'half'\n", ["`precision`", "float32", "'half'"]),
    ],
)
def test_bad_config_files_are_refused(content, words, tmp_path, monkeypatch, fake_runs, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "run.toml").write_bytes(content)
    assert main(["compare", "--config", "run.toml"]) == 2
    line = one_line(capsys.readouterr().err)
    assert all(word in line for word in words), line
    assert not fake_runs
    assert [path.name for path in tmp_path.iterdir()] == ["run.toml"]


def test_options_win_over_the_file_and_the_file_over_defaults(tmp_path, fake_runs):
    out = tmp_path / "deep" / "out"
    (tmp_path / "run.toml").write_text(
        "alpha = 1\nepsilon = 0.5\nkappa = 3.0\ndim = 40\ncentered = true\nlabel_noise = 0.2\nseeds = 3\nstep = 0.5\n"
    )
    arguments = ["--kappa", "2", "--no-centered", "--rtol", "0.02", "--seed", "7", "--out", str(out)]
    assert main(["compare", "--config", str(tmp_path / "run.toml"), *arguments]) == 0
    model = Model(alpha=1.0, epsilon=0.5, kappa=2.0, dim=40, label_noise=0.2)
    common = {"step": 0.5, "precision": "float64", "seed": 7, "progress": True}
    assert fake_runs["solve"] == (
        model,
        DEFAULTS["t_max"],
        {**common, "rtol": 0.02, "atol": 1e-5, "kernels": False, "max_seconds": None, "spread": False},
    )
    simulated = {**common, "rtol": 0.002, "seeds": 3, "form": "auto", "optimizer": sim.Optimizer()}  # rtol: a tenth
    assert fake_runs["simulate"] == (model, DEFAULTS["t_max"], simulated)
    assert (out / "overlay.png").exists()


def test_model_options_are_the_fields_of_the_model():
    options = set(vars(SolveOptions()))
    assert set(field_names()) <= options
    others = {
        "t_max",
        "step",
        "rtol",
        "atol",
        "precision",
        "seed",
        "out",
        "config",
        "kernels",
        "max_seconds",
        "spread",
        "optimizer",
        "momentum",
        "schedule",
        "warmup",
        "json",
        "dry_run",
        "cache",
    }
    assert options - set(field_names()) == others


def test_without_a_model_the_built_in_case_is_run():
    assert settle(CompareOptions(), simulated=True).model == Model(**BUILT_IN_CASE)
    assert settle(CompareOptions(dim=50), simulated=True).model == Model(**BUILT_IN_CASE).replace(dim=50)


def test_a_model_that_is_given_has_the_defaults_of_model():
    options = SimulateOptions(alpha=1.0, epsilon=0.5, kappa=3.0, dim=20)
    assert settle(options, simulated=True).model == Model(alpha=1.0, epsilon=0.5, kappa=3.0, dim=20)
    with pytest.raises(ParameterError, match="`epsilon` must be given too"):
        settle(SimulateOptions(alpha=1.0, kappa=3.0, dim=20), simulated=True)


@pytest.mark.usefixtures("fake_runs")
def test_compare_writes_its_files_and_prints_verdicts(tmp_path, capsys):
    out = tmp_path / "out"
    assert main(["compare", "--out", str(out), "--seeds", "6", "--dim", "50"]) == 0
    assert sorted(path.name for path in out.iterdir()) == ["overlay.png", "simulation.nc", "summary.json", "theory.nc"]
    printed = capsys.readouterr().out
    summary = json.loads((out / "summary.json").read_text())
    for name, row in summary["observables"].items():
        assert row["verdict"] in ("agrees", "differs")
        assert name in printed
    assert "max |z|" in printed
    assert summary["seeds"] == [None, 6]
    assert set(summary["timings"]) == {"solve_seconds", "simulate_seconds"}
    assert summary["grokking"]["theory"]["regime"] == "groks"
    assert summary["second"]["alpha"] == 2.0
    with xarray.open_dataset(out / "simulation.nc", engine="h5netcdf") as dataset:
        assert dataset.sizes["seed"] == 6
    with xarray.open_dataset(out / "theory.nc", engine="h5netcdf") as dataset:
        assert Model.from_attributes(dataset.attrs).kappa == 4.0
    assert (out / "theory.nc").stat().st_mode & 0o777 == 0o666 & ~_umask()


def test_the_built_in_case_is_shown_at_two_sizes_with_the_spread(tmp_path, fake_runs, capsys):
    assert main(["compare", "--out", str(tmp_path), "--seeds", "6"]) == 0
    assert {path.name for path in tmp_path.iterdir()} == {
        *("theory.nc", "simulation.nc", "theory-200.nc", "simulation-200.nc", "summary.json", "overlay.png")
    }
    assert fake_runs["dims"] == [
        ("solve", 100, True),
        ("simulate", 100, 6),
        ("solve", 200, False),
        ("simulate", 200, 3),
    ]
    summary = json.loads((tmp_path / "summary.json").read_text())
    assert (summary["second_dim"]["dim"], summary["second_dim"]["seeds"]) == (200, 3)
    assert set(summary["second_dim"]["observables"]) == set(summary["observables"])
    assert "D = 200, 3 runs" in capsys.readouterr().out
    times = fake_runs["simulate"][2]["times"]
    assert len(times) == 41
    assert times[1] >= 1e-3 * times[-1]


@pytest.mark.parametrize(
    ("more", "dims"),
    [
        (["--dim", "50"], [50]),
        (["--optimizer", "momentum", "--step", "0.1"], [100]),
        (["--second-dim", "60"], [100, 60]),
    ],
)
def test_what_is_shown_is_what_is_asked_for(more, dims, tmp_path, fake_runs):
    assert main(["compare", "--out", str(tmp_path), "--no-spread", *more]) == 0
    assert [one for side, one, _ in fake_runs["dims"] if side == "simulate"] == dims
    assert not any(asked for side, _, asked in fake_runs["dims"] if side == "solve")


@pytest.fixture
def own_run(tmp_path, make_simulation):
    """A run in steps, with half losses and names of its own, as a CSV."""
    run = make_simulation(seeds=1).isel(seed=0)
    steps = run.time.values * 100 * 50 / (2.0**2 * 0.5)
    table = {"it": steps, "loss": run.train_loss.values / 2, "val": run.test_loss.values / 2, "time": 0 * steps}
    pandas.DataFrame(table).to_csv(tmp_path / "run.csv", index=False)
    return tmp_path / "run.csv"


OWN = ["--alpha=2", "--epsilon=0.25", "--kappa=4", "--dim=100", "--width=50", "--initial-overlap=0.1"]
OWN += ["--train=loss", "--test=val"]


def test_compare_takes_runs_of_ones_own(tmp_path, own_run, fake_runs, capsys):
    names = [*OWN, "--time", "it", "--loss", "half", "--learning-rate", "0.5"]
    out = tmp_path / "out"
    assert main(["compare", "--measured", str(own_run), *names, "--out", str(out)]) == 0
    assert "simulate" not in fake_runs
    assert fake_runs["solve"][1] == pytest.approx(100.0)  # the run's last time
    printed = capsys.readouterr().out
    assert "no error, no verdict" in printed
    assert "reason:" not in printed
    assert sorted(path.name for path in out.iterdir()) == ["measured.nc", "overlay.png", "summary.json", "theory.nc"]
    summary = json.loads((out / "summary.json").read_text())
    assert summary["second"]["kind"] == "measurement"
    assert set(summary["grokking"]) == {"theory", "measured"}
    with xarray.open_dataset(out / "measured.nc", engine="h5netcdf") as dataset:
        assert dataset.attrs["width"] == 50
    assert main(["compare", "--measured", str(own_run), str(own_run), *names, "--out", str(out)]) == 0
    assert json.loads((out / "summary.json").read_text())["seeds"] == [None, 2]


@pytest.mark.usefixtures("fake_runs")
def test_compare_says_why_a_run_of_ones_own_differs(tmp_path, own_run, capsys):
    assert main(["compare", "--measured", str(own_run), *OWN, "--time", "it", "--out", str(tmp_path / "out")]) == 0
    line = next(line for line in capsys.readouterr().out.splitlines() if line.startswith("reason: "))
    assert "multiplied by 2 (is a factor 1/2 in them?" in line
    assert "and its time were multiplied by 0.000" in line


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--train", "loss"], "`train` must be left out without `measured`"),
        (["--measured", "run.csv", "--seeds", "3"], "`seeds` must be left out with `measured`"),
        (["--measured", "none.csv"], "no file is at 'none.csv'"),
        (["--measured", "run.csv"], "must hold `train_loss`, but holds it, loss, val, time"),
        (
            ["--measured", "run.csv", "--train", "los", "--test", "val"],
            "must hold `los`, but holds it, loss, val, time; is",
        ),
        (["--measured", "run.csv", "--loss", "quarter"], "`loss` must be one of mean, half"),
        (["--measured", "run.csv", *OWN, "--time", "it", "--runs", "1"], "`runs` must be an integer >= 2"),
    ],
)
def test_runs_that_cannot_be_read_are_refused_first(arguments, words, own_run, fake_runs, monkeypatch, capsys):
    monkeypatch.chdir(own_run.parent)
    assert main(["compare", *arguments]) == 2
    assert words in one_line(capsys.readouterr().err)
    assert not fake_runs


def test_runs_of_another_model_are_refused_before_the_theory_is_solved(tmp_path, make_simulation, fake_runs, capsys):
    make_simulation().to_netcdf(tmp_path / "run.nc")
    model = ["--alpha=3", "--epsilon=0.25", "--kappa=4", "--initial-overlap=0.1"]
    assert main(["compare", "--measured", str(tmp_path / "run.nc"), *model]) == 2
    assert "but alpha is 3 in the options and 2 in the file." in one_line(capsys.readouterr().err)
    assert not fake_runs


def _umask():
    mask = os.umask(0)
    os.umask(mask)
    return mask


def test_solve_and_simulate_write_one_file_each(tmp_path, fake_runs, capsys):
    assert main(["solve", "--kernels", "--out", str(tmp_path)]) == 0
    assert fake_runs["solve"][2]["kernels"] is True
    assert main(["simulate", "--width", "5", "--form", "network", "--out", str(tmp_path)]) == 0
    assert fake_runs["simulate"][2]["form"] == "network"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["simulation.nc", "theory.nc"]
    assert "theory.nc" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("failure", "code", "words"),
    [
        (dmft.DivergenceError("The loss diverged at t = 3;\nuse step < 0.1."), 1, "diverged at t = 3; use step < 0.1."),
        (dmft.MemoryLimitError("needs 9 GiB"), 1, "needs 9 GiB"),
        (MemoryError(), 1, "Out of memory"),
        (RuntimeError("RESOURCE_EXHAUSTED: Out of memory allocating 1 bytes"), 1, "Out of memory"),
        (OSError(28, "No space left on device"), 1, "No space left"),
    ],
)
@pytest.mark.usefixtures("fake_runs")
def test_a_run_that_fails_ends_with_code_1_and_leaves_what_was_finished(
    failure, code, words, tmp_path, monkeypatch, capsys
):
    def fail(*_, **__):
        raise failure

    monkeypatch.setitem(vars(sim), "simulate", fail)
    assert main(["compare", "--out", str(tmp_path / "a" / "b")]) == code
    assert words in one_line(capsys.readouterr().err)
    assert [path.name.split("-")[0] for path in tmp_path.rglob("*.*")] == ["theory"]


@pytest.mark.usefixtures("fake_runs")
@pytest.mark.parametrize("command", ["solve", "compare"])
def test_a_theory_that_fails_on_its_way_leaves_its_curves_so_far(command, tmp_path, monkeypatch, capsys, make_theory):
    error = dmft.ConvergenceError("The time point t = 3 was not solved.")
    error.curves = make_theory().assign_attrs(complete=0)

    def fail(*_, **__):
        raise error

    monkeypatch.setitem(vars(dmft), "solve", fail)
    assert main([command, "--out", str(tmp_path)]) == 1
    path = tmp_path / "theory-partial.nc"
    assert list(tmp_path.iterdir()) == [path]
    assert f"The curves so far are in {path}." in one_line(capsys.readouterr().err)
    with xarray.open_dataset(path, engine="h5netcdf") as dataset:
        assert dataset.attrs["complete"] == 0


@pytest.mark.usefixtures("fake_runs")
def test_interrupting_is_quiet(tmp_path, monkeypatch, capsys):
    def interrupt(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setitem(vars(dmft), "solve", interrupt)
    assert main(["solve", "--out", str(tmp_path / "out")]) == 130
    assert capsys.readouterr().err == ""
    assert not list(tmp_path.iterdir())


@pytest.mark.usefixtures("fake_runs")
def test_a_failure_while_writing_leaves_earlier_results_whole(tmp_path, monkeypatch, capsys):
    assert main(["compare", "--out", str(tmp_path)]) == 0
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}

    def fail(*_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("compare.cli.outputs.write_json", fail)
    assert main(["compare", "--out", str(tmp_path), "--seeds", "4"]) == 1
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir() if path.is_file()} == before
    assert len(list((tmp_path / "unfinished").iterdir())) == 4
    capsys.readouterr()


def test_simulate_for_real(tmp_path):
    """A small run through the real simulation in a fresh process: quiet, and readable afterwards."""
    result = run("simulate", "--dim", "10", "--t-max", "1", "--step", "0.1", "--seeds", "2", "--out", str(tmp_path))
    assert (result.returncode, result.stderr) == (0, "")
    with xarray.open_dataset(tmp_path / "simulation.nc", engine="h5netcdf") as dataset:
        assert dict(dataset.sizes) == {"seed": 2, "time": 11}
        assert dataset["time"].values[-1] == pytest.approx(1.0)


def test_training_options_reach_the_simulation(tmp_path, fake_runs):
    (tmp_path / "run.toml").write_text('optimizer = "momentum"\nmomentum = 0.5\nbatch_size = 50\nresume = true\n')
    arguments = ["--config", str(tmp_path / "run.toml"), "--replacement", "--schedule", "cosine", "--warmup", "10"]
    more = ["--stop-below", "test_loss=0.1, train_loss=1e-3", "--step", "0.1", "--out", str(tmp_path / "out")]
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "simulation.checkpoint.npz").touch()
    assert main(["simulate", *arguments, *more]) == 0
    options = fake_runs["simulate"][2]
    assert options["optimizer"] == sim.Optimizer("momentum", 0.5, 50, True, "cosine", 10)
    assert options["stop_below"] == {"test_loss": 0.1, "train_loss": 1e-3}
    assert options["checkpoint"] == tmp_path / "out" / "simulation.checkpoint.npz"
    assert not options["checkpoint"].exists()
    assert main(["simulate", "--out", str(tmp_path / "out")]) == 0
    assert fake_runs["simulate"][2]["checkpoint"] is None


def test_a_checkpoint_is_not_overwritten_unasked(tmp_path, fake_runs, capsys):
    checkpoint = tmp_path / "simulation.checkpoint.npz"
    checkpoint.write_text("a run of hours")
    assert main(["simulate", "--checkpoint-every", "60", "--out", str(tmp_path)]) == 2
    line = one_line(capsys.readouterr().err)
    assert "`resume` must be given" in line
    assert str(checkpoint) in line
    assert not fake_runs
    assert checkpoint.read_text() == "a run of hours"


def test_a_checkpoint_of_another_run_for_real(tmp_path, capsys):
    """What differs is named, and the file stays."""
    options = ["simulate", "--dim", "10", "--t-max", "1", "--step", "0.1", "--seeds", "2", "--out", str(tmp_path)]
    model = Model(**BUILT_IN_CASE).replace(dim=10)
    checkpoint = tmp_path / "simulation.checkpoint.npz"
    sim.simulate(model, 1.0, step=0.1, seeds=3, checkpoint=checkpoint)
    assert main([*options, "--resume"]) == 2
    said = capsys.readouterr()
    assert said.out.splitlines()[1:] == []
    assert "seeds = 3 there, 2 here" in one_line(said.err)
    assert [path.name for path in tmp_path.iterdir()] == ["simulation.checkpoint.npz"]


@pytest.mark.slow
def test_compare_for_real(tmp_path):
    """Theory and simulation of the same discrete gradient descent, in a fresh process."""
    options = ["--alpha", "1", "--epsilon", "0.5", "--kappa", "3", "--dim", "50", "--initial-overlap", "0.1"]
    result = run("compare", *options, "--t-max", "2", "--step", "0.2", "--seeds", "4", "--out", str(tmp_path))
    assert result.returncode == 0, result.stderr
    assert result.stderr == ""
    summary = json.loads((tmp_path / "summary.json").read_text())
    assert summary["compared_times"] == 11
    assert summary["first"]["step"] == summary["second"]["step"] == 0.2
    assert summary["observables"]["train_loss"]["verdict"] == "agrees"
    for name in ("theory.nc", "simulation.nc"):
        with xarray.open_dataset(tmp_path / name, engine="h5netcdf") as dataset:
            np.testing.assert_allclose(dataset["time"], 0.2 * np.arange(11))


def test_diverging_simulation_for_real(tmp_path, capsys):
    options = ["--dim", "10", "--t-max", "500", "--step", "50", "--seeds", "2", "--out", str(tmp_path)]
    assert main(["simulate", *options]) == 1
    line = one_line(capsys.readouterr().err)
    assert "stable one is step" in line
    assert str(tmp_path / "simulation-partial.nc") in line
    assert [path.name for path in tmp_path.iterdir()] == ["simulation-partial.nc"]
    with xarray.open_dataset(tmp_path / "simulation-partial.nc", engine="h5netcdf") as dataset:
        assert dataset.attrs["complete"] == 0
        assert np.isfinite(dataset["train_loss"]).all()


def test_warnings_are_one_line_without_a_place_in_the_code(tmp_path, monkeypatch, make_theory, capsys):
    theory = make_theory(tolerance_met=0, tolerance_message="error 0.1", width=30)

    def solve(*_, **__):
        warnings.warn("Tolerance not reached:\nerror 0.1.", UserWarning, stacklevel=2)
        return theory

    monkeypatch.setitem(vars(dmft), "solve", solve)
    assert main(["solve", "--out", str(tmp_path)]) == 0
    assert capsys.readouterr().err == "dmft: warning: Tolerance not reached: error 0.1.\n"
    assert overlay(theory, theory).first.notes == (
        "The theory takes the width 30 as infinite.",
        "The theory's tolerance was not reached: error 0.1.",
    )


def test_the_cache_is_where_the_option_says(tmp_path, monkeypatch):
    monkeypatch.setenv("DMFT_CACHE", "off")  # and is restored
    arguments = ["--dim", "5", "--t-max", "0.2", "--step", "0.1", "--seeds", "1", "--out", str(tmp_path / "out")]
    assert main(["simulate", *arguments, "--cache", str(tmp_path / "cache")]) == 0
    assert {path.name.split("-")[0] for path in (tmp_path / "cache").iterdir()} >= {"advance", "begin"}
