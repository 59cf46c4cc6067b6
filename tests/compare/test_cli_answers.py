"""What commands say: examples in the help, JSON for programs, a dry run instead of the run, completion."""

import json
import os
import subprocess
import sys
import tomllib

import pytest
import xarray

import dmft
import sim
from compare.cli import estimate, main
from compare.cli.help import EXAMPLES
from compare.cli.options import BUILT_IN_CASE, CompareOptions, PhaseOptions, SimulateOptions, SolveOptions
from compare.cli.settings import resolved, settle, settle_phase
from compare.sweep.points import compute
from dmft import Model
from dmft.losses.quadratic import OBSERVABLES

COMMANDS = ("solve", "simulate", "compare", "phase", "train", "report", "explore")


@pytest.fixture
def fake_runs(monkeypatch, make_theory, make_simulation):
    """`solve`, `simulate` and sweeps replaced by instant ones that count."""
    calls = []

    def fake(name, result):
        def run(*_, **__):
            calls.append(name)
            return result()

        return run

    monkeypatch.setitem(vars(dmft), "solve", fake("solve", lambda: make_theory(tolerance_met=1)))
    monkeypatch.setitem(vars(sim), "simulate", fake("simulate", make_simulation))
    return calls


def answer(capsys) -> dict:
    """The one JSON object on standard output, where nothing else is, and no NaN in it."""

    def refuse(constant):
        raise AssertionError(constant)

    out = capsys.readouterr().out
    assert out.count("\n") == 1
    return json.loads(out, parse_constant=refuse)


@pytest.mark.parametrize("command", ["", *COMMANDS])
def test_help_ends_with_examples_that_are_not_broken(command, capsys, monkeypatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    assert main([*command.split(), "--help"]) == 0
    shown = capsys.readouterr().out.splitlines()
    for line in EXAMPLES[command or "dmft"]:
        assert f"    {line}" in [each.rstrip() for each in shown]


@pytest.mark.parametrize(
    "line",
    [
        line
        for lines in EXAMPLES.values()
        for line in lines
        if not any(word in line for word in ("--config", "--measured", "report", "explore", " fit "))
    ],
)
def test_every_example_is_good_usage(line, tmp_path, monkeypatch, capsys) -> None:
    """With --dry-run added; the estimate, which takes seconds, is left out."""
    for name in ("theory_estimate", "simulation_estimate", "preset_estimate"):
        monkeypatch.setattr(estimate, name, lambda *_: SAMPLE)
    monkeypatch.setattr(estimate, "phase_estimates", lambda _: [SAMPLE])
    monkeypatch.chdir(tmp_path)
    program, *arguments = line.partition("#")[0].partition("|")[0].split()
    assert program == "dmft"
    plain = {"--help", "--install-completion", "--dry-run"} & set(arguments)
    if "--install-completion" not in arguments:  # writes into the home folder: tested below
        assert main([*arguments, *([] if plain else ["--dry-run"])]) == 0
    assert not list(tmp_path.iterdir())
    capsys.readouterr()


SAMPLE = estimate.Estimate(side="theory", work="12 replicas", memory_bytes=2**30, seconds=100.0)


def test_solve_answers_a_program(tmp_path, fake_runs, capsys) -> None:
    assert main(["solve", "--json", "--t-max", "7", "--out", str(tmp_path)]) == 0
    found = answer(capsys)
    assert (found["command"], found["files"]) == ("solve", [str(tmp_path / "theory.nc")])
    assert found["settings"] == BUILT_IN_CASE | {
        **{"centered": False, "label_noise": 0.0, "weight_decay": 0.0, "t_max": 7.0, "precision": "float64", "seed": 0},
        **{"out": str(tmp_path), "rtol": 0.01, "atol": 1e-5, "kernels": False, "spread": False},
        **{"optimizer": "gd", "schedule": "constant", "warmup": 0, "strengths": [1.0]},
    }
    result = found["result"]
    assert set(result["final"]) == set(OBSERVABLES)
    with xarray.open_dataset(tmp_path / "theory.nc", engine="h5netcdf") as dataset:
        assert result["final"]["test_loss"] == {
            "value": float(dataset.test_loss[-1]),
            "error": float(dataset.test_loss_stderr[-1]),
        }
        assert result["time"] == float(dataset.time[-1])
    assert result["grokking"]["regime"] == "groks"
    assert result["tolerance_met"] is True
    assert fake_runs == ["solve"]


@pytest.mark.usefixtures("fake_runs")
def test_simulate_answers_a_program(tmp_path, capsys) -> None:
    assert main(["simulate", "--json", "--seeds", "8", "--out", str(tmp_path)]) == 0
    found = answer(capsys)
    assert found["files"] == [str(tmp_path / "simulation.nc")]
    assert found["settings"]["seeds"] == 8
    assert found["result"]["grokking"]["t_test"]["runs"] == 8
    assert "tolerance_met" not in found["result"]


@pytest.mark.usefixtures("fake_runs")
def test_compare_answers_with_its_summary(tmp_path, capsys) -> None:
    assert main(["compare", "--json", "--out", str(tmp_path)]) == 0
    found = answer(capsys)
    assert found["result"] == json.loads((tmp_path / "summary.json").read_text())
    assert [path.rsplit("/", 1)[1] for path in found["files"]] == [
        *("theory.nc", "simulation.nc", "theory-200.nc", "simulation-200.nc", "summary.json", "overlay.png")
    ]


@pytest.mark.usefixtures("fake_runs")
def test_a_failure_leaves_standard_output_empty(tmp_path, monkeypatch, capsys) -> None:
    def fail(*_, **__):
        raise dmft.DivergenceError("The loss diverged.")

    monkeypatch.setitem(vars(dmft), "solve", fail)
    assert main(["solve", "--json", "--out", str(tmp_path)]) == 1
    assert capsys.readouterr() == ("", "dmft: The loss diverged.\n")


def test_phase_and_report_answer_a_program(tmp_path, monkeypatch, capsys) -> None:
    """A sweep of two points for real, by simulation alone in this process, and its report."""
    monkeypatch.setattr(
        "compare.sweep.phase.local_runner",
        lambda _: lambda points: ((each, compute(each.to_json())) for each in points),
    )
    sweep = ["phase", "--x", "kappa=1,2", "--dim", "10", "--no-theory", "--simulate-every", "1", "--seeds", "2"]
    assert main([*sweep, "--t-max", "1", "--step", "0.1", "--json", "--out", str(tmp_path)]) == 0
    found = answer(capsys)
    assert found["result"]["axes"] == {"kappa": [1.0, 2.0]}
    side = found["result"]["simulation"]
    assert (side["points"], side["failed"]) == (2, 0)
    assert sum(side["regimes"].values()) == 2
    assert "theory" not in found["result"]
    assert all(os.path.exists(path) for path in found["files"])
    assert "kappa" not in found["settings"]
    assert main(["report", str(tmp_path), "--json"]) == 0
    assert answer(capsys) == {"command": "report", "files": [str(tmp_path / "report.html")]}


@pytest.mark.parametrize(
    ("arguments", "sides"),
    [
        (["solve", "--t-max", "3", "--kernels"], ["theory"]),
        (["simulate", "--dim", "20", "--t-max", "3"], ["simulation"]),
        (["simulate", "--step", "0.1", "--optimizer", "momentum", "--stop-below", "test_loss=0.1"], ["simulation"]),
        (["simulate", "--preset", "fig4", "--seeds", "3"], ["simulation"]),
        (["compare", "--config", "CONFIG", "--rtol", "0.1"], ["theory", "simulation"]),
        (
            ["phase", "--x", "alpha=1,2", "--dim", "20", "--t-max", "3", "--simulate-every", "1"],
            ["theory", "simulation"],
        ),
    ],
)
def test_a_dry_run_prints_a_file_of_its_settings_and_runs_nothing(
    arguments, sides, tmp_path, monkeypatch, fake_runs, capsys
) -> None:
    monkeypatch.chdir(tmp_path)
    config = tmp_path / "run.toml"
    config.write_text("dim = 20\nt_max = 3.0\n")
    arguments = [str(config) if word == "CONFIG" else word for word in arguments]
    assert main([*arguments, "--dry-run"]) == 0
    printed = capsys.readouterr().out
    assert [line.split(":")[0] for line in printed.splitlines() if "GiB" in line] == [f"# {side}" for side in sides]
    assert main([*arguments, "--dry-run", "--json"]) == 0
    found = answer(capsys)
    assert tomllib.loads(printed) == found["settings"]
    assert [row["side"] for row in found["estimates"]] == sides
    assert all(row["seconds"] > 0 and row["memory_bytes"] > 1e8 for row in found["estimates"])
    config.write_text(printed)
    assert main([arguments[0], "--config", str(config), "--dry-run", "--json"]) == 0
    assert answer(capsys)["settings"] == found["settings"]
    assert not fake_runs
    assert list(tmp_path.iterdir()) == [config]


def test_resolved_settings_are_those_that_run() -> None:
    assert resolved(CompareOptions(), settle(CompareOptions(), simulated=True))["initial_overlap"] == 0.1
    options = SimulateOptions(dim=20, optimizer="momentum", step=0.1)
    assert resolved(options, settle(options, simulated=True))["momentum"] == 0.9
    options = PhaseOptions(x="dim=20,40")
    found = resolved(options, settle_phase(options))
    assert (found["x"], "y" in found, "dim" in found, found["rtol"]) == ("dim=20,40", False, False, 0.03)
    options = SolveOptions(alpha=1.0, epsilon=0.5, kappa=2.0)
    assert "dim" not in resolved(options, settle(options, simulated=False))


def test_estimates_grow_as_the_work_does() -> None:
    def of(**changes):
        options = CompareOptions(**({"dim": 20, "t_max": 4.0} | changes))
        settings = settle(options, simulated=True)
        return estimate.theory_estimate(settings), estimate.simulation_estimate(settings)

    theory, simulation = of()
    longer_theory, _ = of(t_max=1e5)
    _, more_seeds = of(seeds=8000)
    assert longer_theory.seconds > theory.seconds
    assert longer_theory.memory_bytes > theory.memory_bytes
    assert more_seeds.seconds - estimate.simulation.START > 300 * (simulation.seconds - estimate.simulation.START)
    run = sim.simulate(Model(**BUILT_IN_CASE).replace(dim=20), 4.0, seeds=1)
    assert simulation.work.endswith("evaluations")
    assert 0.5 < int(simulation.work.split()[2]) / run.attrs["evaluations"] < 2.0


@pytest.mark.slow
@pytest.mark.parametrize(
    "arguments",
    [
        ["simulate", "--dim", "60", "--t-max", "40"],
        ["simulate", "--width", "2", "--dim", "40", "--step", "0.02", "--t-max", "2000"],
    ],
)
def test_estimates_hold_within_a_factor_of_three(arguments, tmp_path) -> None:
    """Against processor time, which other work leaves alone; documented is a factor of 2 on quiet cores."""
    command = [sys.executable, "-m", "compare.cli", *arguments]
    told = subprocess.run([*command, "--dry-run", "--json"], capture_output=True, text=True, check=True)
    clean = {name: value for name, value in os.environ.items() if name != "JAX_COMPILATION_CACHE_DIR"}
    clean["DMFT_CACHE"] = "off"
    before = os.times()
    subprocess.run([*command, "--out", str(tmp_path)], capture_output=True, check=True, env=clean)
    after = os.times()
    spent = after.children_user + after.children_system - before.children_user - before.children_system
    seconds = json.loads(told.stdout)["estimates"][0]["seconds"]
    cores = min(2, len(os.sched_getaffinity(0))) if arguments[0] == "solve" else 1
    assert 1 / 3 < spent / (seconds * cores) < 3


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion(shell, tmp_path) -> None:
    """The script is installed in the home folder of the shell in use, and knows commands and options."""
    result = subprocess.run(
        [
            sys.executable,
            "-c",
            "import sys; from compare.cli.commands import app; print(app.generate_completion(shell=sys.argv[1]))",
            shell,
        ],
        capture_output=True,
        text=True,
        check=True,
        env=os.environ | {"HOME": str(tmp_path)},
    )
    for word in (*COMMANDS, "initial-overlap", "dry-run"):
        assert word in result.stdout


def test_a_schedule_of_a_file_may_be_an_array(tmp_path, capsys):
    config = tmp_path / "run.toml"
    config.write_text("alpha = 1.0\nepsilon = 0.5\nkappa = 2.0\nschedule = [1.0, 0.5]\nstep = 0.5\nt_max = 1.0\n")
    for as_json in ([], ["--json"]):
        assert main(["solve", "--config", str(config), "--dry-run", *as_json]) == 0
        assert "[1.0, 0.5]" in capsys.readouterr().out
