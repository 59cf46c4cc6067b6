"""The command line in surroundings it did not choose: paths, streams, terminals, full disks, kills, Ctrl-C."""

import errno
import json
import os
import random
import re
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import matplotlib
import pytest
import xarray

import dmft
import sim
from compare import overlay, phase_diagram
from compare.cli import main
from compare.cli.options import DEFAULTS
from compare.report.page import write_report
from compare.sweep import phase, workers
from compare.sweep.point_file import decode
from compare.sweep.points import Failure, Point, compute
from compare.sweep.workers import WorkersError, local_runner
from dmft import Model, ParameterError

QUICK = ["--dim", "10", "--t-max", "1", "--step", "0.1", "--seeds", "2"]
POINT = Point(
    side="simulation",
    model=Model(alpha=1.0, epsilon=0.0, kappa=2.0, dim=20),
    settings={"t_max": 0.4, "step": 0.2, "precision": "float64", "seed": 0, "seeds": 2, "form": "auto"},
)
SEED = "`seed` must be an integer >= 0 and < 9223372036854775808"
SWEEP = ["phase", "--x", "kappa=1,2", "--dim", "10", "--no-theory", "--simulate-every", "1", *QUICK[2:]]


@pytest.fixture
def fake_runs(monkeypatch, make_theory, make_simulation):
    """`solve` and `simulate` replaced by instant ones; sweeps in this process."""
    monkeypatch.setitem(vars(dmft), "solve", lambda *_, **__: make_theory(t_max=100.0))
    monkeypatch.setitem(vars(sim), "simulate", lambda *_, **__: make_simulation())
    monkeypatch.setattr(phase, "local_runner", lambda _: lambda points: ((p, compute(p.to_json())) for p in points))


def shell(line, *arguments, **variables):
    """Run a line of bash in which "$@" is the program with these arguments."""
    return subprocess.run(
        ["bash", "-c", line, "bash", sys.executable, "-m", "compare.cli", *arguments],
        capture_output=True,
        check=False,
        timeout=120,
        env=os.environ | variables,
    )


# Paths


@pytest.mark.usefixtures("fake_runs")
def test_a_tilde_is_the_home_folder_everywhere(tmp_path, monkeypatch, make_theory):
    home = tmp_path / "home"
    home.mkdir()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(home))
    (home / "run.toml").write_text('out = "~/by-file"\n')
    assert main(["solve", "--out=~/by-option"]) == 0
    assert main(["solve", "--config=~/run.toml"]) == 0
    assert main([*SWEEP, "--out=~/sweep"]) == 0
    overlay(make_theory(), make_theory()).plot("~/picture.png")
    phase_diagram(POINT.model, ("kappa", [2.0]), theory=False, simulate_every=1, t_max=1.0, step=0.5, folder="~/points")
    write_report("~/by-option")
    made = {path.name for path in home.iterdir() if not path.name.startswith(".")}  # not caches of libraries
    assert made == {"run.toml", "by-file", "by-option", "sweep", "picture.png", "points"}
    assert (home / "by-option" / "report.html").exists()
    assert [path.name for path in tmp_path.iterdir()] == ["home"]


@pytest.mark.parametrize("path", ["", "~nobody-of-this-name/x", "a\0b", 3])
def test_what_is_no_path_is_named(path, make_theory):
    with pytest.raises(ParameterError, match="`path`"):
        overlay(make_theory(), make_theory()).plot(path)


# Workers


def test_modules_in_the_working_folder_are_not_those_of_workers(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("compare", "sim", "queue", "random", "json"):
        (tmp_path / f"{name}.py").write_text("raise RuntimeError('a module of the user')\n")
    (tmp_path / "dmft").mkdir()
    (tmp_path / "dmft" / "__init__.py").write_text("raise RuntimeError('a folder of the user')\n")
    monkeypatch.setattr(sys, "path", ["", *sys.path])
    [(_, outcome)] = local_runner(1)([POINT])
    assert outcome == compute(POINT.to_json())


def test_packages_in_the_working_folder_are_found_last(monkeypatch):
    """As in a checkout that is not installed."""
    root = str(Path(dmft.__file__).parents[1])
    monkeypatch.chdir(root)
    monkeypatch.setattr(sys, "path", ["", root, *(place for place in sys.path if place not in ("", root))])
    assert workers.command()[-1] == root
    assert root not in workers.command()[:-1]


def test_a_worker_that_cannot_start_ends_the_sweep_and_nothing_is_stored(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("JAX_PLATFORMS", "no-such-device")
    assert main([*SWEEP, "--out", str(tmp_path)]) == 1
    assert "A worker cannot compute" in capsys.readouterr().err
    assert not list((tmp_path / "points").iterdir())
    assert not (tmp_path / "phase.nc").exists()
    monkeypatch.setattr(workers, "command", lambda: [sys.executable, "-c", "raise SystemExit(7)"])
    with pytest.raises(WorkersError, match="ended with code 7"):
        list(local_runner(1)([POINT]))


def test_what_lies_in_the_machine_is_not_stored(tmp_path, monkeypatch, capsys):
    """Memory, and errors nobody foresaw; that a point diverges is stored."""
    outcomes = [Failure("no memory", lasting=False), Failure("diverged")]
    run = lambda points: (pair for pair in zip(points, outcomes, strict=True))  # noqa: E731
    monkeypatch.setattr(phase, "local_runner", lambda _: run)
    assert main([*SWEEP, "--out", str(tmp_path)]) == 1
    assert "All points failed; the first: no memory" in capsys.readouterr().err
    assert [path.suffix for path in (tmp_path / "points").iterdir()] == [".json"]
    with xarray.open_dataset(tmp_path / "phase.nc", engine="h5netcdf") as dataset:
        assert dataset.simulation_message.values.tolist() == ["no memory", "diverged"]
    for error, lasting in ((MemoryError(), False), (dmft.MemoryLimitError("x"), False), (dmft.DivergenceError(), True)):
        monkeypatch.setattr("sim.simulate", lambda *_, error=error, **__: (_ for _ in ()).throw(error))
        assert compute(POINT.to_json()).lasting is lasting


# Pictures


@pytest.mark.usefixtures("fake_runs")
def test_a_user_s_style_does_not_reach_our_pictures(tmp_path):
    arguments = ["compare", "--out"]
    assert main([*arguments, str(tmp_path / "plain")]) == 0
    style = {"text.usetex": True, "lines.marker": "x", "font.family": "no such font", "savefig.bbox": "tight"}
    with matplotlib.rc_context(style):
        assert main([*arguments, str(tmp_path / "styled")]) == 0
    pictures = [(tmp_path / name / "overlay.png").read_bytes() for name in ("plain", "styled")]
    assert pictures[0] == pictures[1]


@pytest.mark.usefixtures("fake_runs")
def test_a_picture_that_fails_takes_no_data_with_it(tmp_path, monkeypatch, capsys):
    (tmp_path / "overlay.png").write_text("of another run")

    def fail(*_):
        raise RuntimeError("no\nLaTeX")

    monkeypatch.setattr("compare.figures.overlay.overlay_figure", fail)
    assert main(["compare", "--json", "--out", str(tmp_path)]) == 1
    said = capsys.readouterr()
    assert said.err == (
        "dmft: The data were written, but a picture could not be drawn: overlay (RuntimeError: no LaTeX).\n"
    )
    written = sorted(path.name for path in tmp_path.iterdir())
    assert written == ["simulation-200.nc", "simulation.nc", "summary.json", "theory-200.nc", "theory.nc"]
    assert sorted(Path(path).name for path in json.loads(said.out)["files"]) == written


# Late refusals


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["solve", "--seed", str(2**63)], SEED),
        (["simulate", "--seed", str(2**70)], SEED),
        (
            ["simulate", "--preset", "fig4", "--seed", str(2**63)],
            SEED,
        ),
        (["phase", "--seed", str(2**63)], SEED),
        (["phase", "--threshold", "-1"], "`threshold` must be a finite number > 0"),
        (["phase", "--ratio", "0"], "`ratio`"),
        (["phase", "--workers", "0"], "`workers` must be an integer >= 1"),
        (["phase", "--seeds", "0"], "`seeds` must be an integer >= 1"),
        (["phase", "--t-max", "-1"], "`t_max` must be a finite number > 0"),
        (["phase", "--step", "1000"], "`step` must be a number > 0 and <= t_max"),
        (["phase", "--rtol", "0"], "`rtol`"),
        (["phase", "--x", "alpha=1,2", "--y", "alpha=1,2"], "`y` must be another field"),
        (["phase", "--x", "alpha=1,-2"], "`alpha` must be a finite number > 0"),
        (["phase", "--no-theory"], "nothing is left to do"),
        (["phase", "--x", "kappa=1,2", "--simulate-every", "1", "--form", "network"], "`form`"),
        (["solve", "--out", "~nobody-of-this-name/x"], "`out` must be a path"),
    ],
)
@pytest.mark.usefixtures("fake_runs")
def test_a_dry_run_and_a_real_one_refuse_the_same(arguments, says, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    lines = []
    for more in ([], ["--dry-run"]):
        assert main([*arguments, *more]) == 2
        lines.append(capsys.readouterr().err)
    assert lines[0] == lines[1]
    assert says in lines[0]
    assert lines[0].count("\n") == 1
    assert not list(tmp_path.iterdir())


# Streams and terminals


def test_a_closed_standard_error_is_no_fault_of_the_run(tmp_path):
    done = shell('"$@" 2>&- <&-', "simulate", *QUICK, "--json", "--out", str(tmp_path / "out"))
    assert done.returncode == 0
    assert json.loads(done.stdout)["files"] == [str(tmp_path / "out" / "simulation.nc")]
    xarray.load_dataset(tmp_path / "out" / "simulation.nc", engine="h5netcdf")
    refused = shell('"$@" 2>&-', "solve", "--alpha", "-1")
    assert (refused.returncode, refused.stdout) == (2, b"")


@pytest.mark.usefixtures("fake_runs")
def test_without_a_standard_error_at_all(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(sys, "stderr", None)
    assert main(["solve", "--json", "--out", str(tmp_path)]) == 0
    assert json.loads(capsys.readouterr().out)["command"] == "solve"
    assert main(["solve", "--alpha", "-1"]) == 2
    assert capsys.readouterr().out == ""


def test_a_reader_who_goes_away_costs_nothing(tmp_path):
    gone = shell('"$@" | head -1; exit ${PIPESTATUS[0]}', "--help")
    assert (gone.returncode, gone.stdout.count(b"\n"), gone.stderr) == (0, 1, b"")
    line = '"$@" | true; exit ${PIPESTATUS[0]}'
    gone = shell(line, "simulate", *QUICK, "--out", str(tmp_path))
    assert (gone.returncode, gone.stderr) == (0, b"")
    assert [path.name for path in tmp_path.iterdir()] == ["simulation.nc"]


@pytest.mark.parametrize("columns", ["0", "1", "-3", "many"])
def test_help_ends_at_any_width_of_the_terminal(columns):
    helped = shell('timeout 60 "$@"', "solve", "--help", COLUMNS=columns)
    assert helped.returncode == 0
    assert b"--initial-overlap" in helped.stdout


def test_a_byte_order_mark_is_no_key(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    Path("run.toml").write_bytes(b'\xef\xbb\xbfx = "alpha=1,2"\nkappa = 0\n')
    assert main(["phase", "--config", "run.toml"]) == 2
    assert "`kappa` must be a finite number > 0" in capsys.readouterr().err


@pytest.mark.parametrize("encoding", [{"PYTHONIOENCODING": "ascii"}, {"LC_ALL": "C", "PYTHONCOERCECLOCALE": "0"}])
def test_an_ascii_locale_takes_any_folder(encoding, tmp_path):
    out = tmp_path / "Größe-∞"
    done = shell('"$@"', "simulate", *QUICK, "--out", str(out), PYTHONUTF8="0", **encoding)
    assert (done.returncode, done.stderr) == (0, b"")
    xarray.load_dataset(out / "simulation.nc", engine="h5netcdf")


# Ctrl-C

#: A main thread in C code that no signal ends, as jax's compiler is, behind the door of the real program.
BLOCKED = """
    import ctypes, sys
    import dmft
    from compare.cli import main
    from compare.files import finished, output_folder

    def block(*_, **__):
        with output_folder(sys.argv[-1] + "/inner") as folder, finished(folder / "theory.nc") as part:
            part.write_text("half")
            mutex, c = ctypes.create_string_buffer(64), ctypes.CDLL(None)
            c.pthread_mutex_lock(mutex)
            print("blocked", flush=True)
            c.pthread_mutex_lock(mutex)

    vars(dmft)["solve"] = block
    sys.exit(main())
"""


def _interruptible():
    """A shell's background jobs ignore Ctrl-C, and so would their children."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def interrupted(command, ready, **options):
    """Send Ctrl-C when `ready(process)`: exit code, what was said on standard error, seconds that it took."""
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, preexec_fn=_interruptible, **options
    )
    ready(process)
    process.send_signal(signal.SIGINT)
    start = time.monotonic()
    _, said = process.communicate(timeout=60)
    return process.returncode, said, time.monotonic() - start


def test_ctrl_c_ends_a_program_whose_main_thread_is_blocked(tmp_path):
    def blocked(process):
        while "blocked" not in process.stdout.readline():
            assert process.poll() is None, process.stderr.read()
        time.sleep(0.5)  # until it is

    out = tmp_path / "out"
    command = [sys.executable, "-c", textwrap.dedent(BLOCKED), "solve", "--out", str(out)]
    code, said, seconds = interrupted(command, blocked)
    again = f"nothing of this run is kept; it starts again with: dmft solve --out {out}"
    assert (code, said) == (130, f"dmft: interrupted: {again}\n")
    assert seconds < 2.0
    assert not out.exists()


#: A program that takes its time to end, as Python does with what jax leaves.
ENDED = """
    import sys, time
    from compare.cli import main

    code = main()
    print("ended", flush=True)
    time.sleep(0.5)
    sys.exit(code)
"""


def test_ctrl_c_after_the_last_step_changes_nothing():
    def ended(process):
        while "ended" not in process.stdout.readline():
            assert process.poll() is None, process.stderr.read()

    command = [sys.executable, "-c", textwrap.dedent(ENDED), "--version"]
    code, said, _ = interrupted(command, ended)
    assert (code, said) == (0, "")


@pytest.mark.slow
def test_ctrl_c_ends_a_program_that_compiles(tmp_path):
    """Seconds of compilation, with nothing compiled before, are interrupted when jax says that they begin."""
    environment = {name: value for name, value in os.environ.items() if name != "XLA_FLAGS"}  # these make it short
    environment |= {"JAX_COMPILATION_CACHE_DIR": "", "DMFT_CACHE": "off", "JAX_LOG_COMPILES": "1"}
    command = [sys.executable, "-m", "compare.cli", "solve", "--t-max", "12", "--out", str(tmp_path / "out")]
    for seconds in (0.0, 0.5, 1.0):

        def compiles(process, seconds=seconds):
            while "Compiling jit(advance" not in process.stderr.readline():
                assert process.poll() is None
            time.sleep(seconds)

        code, said, taken = interrupted(command, compiles, env=environment)
        assert code == 130
        assert re.fullmatch(
            r"dmft: interrupted: nothing of this run is kept; .* dmft solve --t-max 12 --out .*", said.splitlines()[-1]
        )
        assert taken < 2.0
        assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_ctrl_c_ends_a_sweep_and_its_workers_and_keeps_its_points(tmp_path):
    points = tmp_path / "points"
    sweep = ["phase", "--x", "kappa=1:6:20", "--dim", "10", "--no-theory", "--simulate-every", "1", "--seeds", "2"]
    command = [sys.executable, "-m", "compare.cli", *sweep, "--t-max", "1e3", "--step", "0.1"]

    workers = []

    def some_done(process):
        while not (points.is_dir() and len(list(points.glob("*.nc"))) >= 2):
            assert process.poll() is None, process.stderr.read()
            time.sleep(0.05)
        children = Path(f"/proc/{process.pid}/task").glob("*/children")
        workers.extend(word for path in children for word in path.read_text().split())

    code, said, seconds = interrupted([*command, "--workers", "2", "--out", str(tmp_path)], some_done)
    assert code == 130
    kept = (
        rf"(\d+) of 20 points are kept in {re.escape(str(points))}; it goes on with: dmft phase --x kappa=1:6:20 .*\n"
    )
    found = re.fullmatch(rf"dmft: interrupted: {kept}", said)
    assert found
    assert int(found[1]) == len(list(points.glob("*.nc"))) >= 2
    assert main(["report", str(tmp_path)]) == 0
    assert f"not finished: {found[1]} of 20 points so far" in (tmp_path / "report.html").read_text()
    (tmp_path / "report.html").unlink()
    assert seconds < 2.0
    assert {path.suffix for path in tmp_path.rglob("*") if path.is_file()} == {".nc"}
    time.sleep(1.0)
    assert len(workers) == 2
    assert not any(Path(f"/proc/{worker}/stat").exists() for worker in workers)


def test_ctrl_c_before_the_first_point_keeps_what_was_asked(tmp_path):
    """The sweep's axes and settings are there, and the report shows it with no point done."""
    sweep = ["phase", "--x", "kappa=1,2", "--dim", "10", "--no-theory", "--simulate-every", "1", "--seeds", "2"]
    command = [sys.executable, "-m", "compare.cli", *sweep, "--t-max", "1e6", "--step", "0.1", "--out", str(tmp_path)]

    def begun(process):
        while not (tmp_path / "unfinished.nc").exists():
            assert process.poll() is None, process.stderr.read()
            time.sleep(0.05)

    code, said, seconds = interrupted(command, begun)
    assert (code, seconds < 2.0) == (130, True)
    assert f"0 of 2 points are kept in {tmp_path / 'points'}; it goes on with: dmft phase --x" in said
    assert main(["report", str(tmp_path)]) == 0
    assert "not finished: 0 of 2 points so far" in (tmp_path / "report.html").read_text()


def test_ctrl_c_keeps_a_simulation_that_is_saved_on_its_way(tmp_path):
    saved = tmp_path / "simulation.checkpoint.npz"
    run = ["simulate", "--dim", "10", "--seeds", "2", "--step", "0.1", "--t-max", "1e7", "--checkpoint-every", "0"]

    def begun(process):
        while not saved.exists():
            assert process.poll() is None, process.stderr.read()
            time.sleep(0.05)

    code, said, seconds = interrupted([sys.executable, "-m", "compare.cli", *run, "--out", str(tmp_path)], begun)
    assert (code, seconds < 2.0) == (130, True)
    going_on = f"it goes on with: dmft {' '.join(run)} --out {tmp_path} --resume\n"
    assert said == f"dmft: interrupted: the run so far is kept in {saved}; {going_on}"


# Disks and kills

COMMANDS = {
    "solve": ["solve", "--t-max", "2", "--step", "0.2", "--rtol", "0.5"],
    "simulate": ["simulate", *QUICK],
    "preset": ["simulate", "--preset", "fig9"],
    "compare": ["compare", "--dim", "10", "--t-max", "2", "--step", "0.2", "--rtol", "0.5", "--seeds", "2"],
    "phase": [*SWEEP, "--workers", "1"],
}


def contents(folder):
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize(
    ("call", "fault"), [("fsync", errno.ENOSPC), ("fsync", errno.EDQUOT), ("replace", errno.EROFS)]
)
@pytest.mark.parametrize("command", [*COMMANDS, "report"])
@pytest.mark.usefixtures("fake_runs")
def test_a_disk_that_takes_nothing_more_loses_nothing(
    command, call, fault, tmp_path, monkeypatch, capsys, make_simulation
):
    run = make_simulation(step=0.1, samples=100)
    run.attrs["paper_step"] = 0.1
    monkeypatch.setattr("sim.presets.run_preset", lambda chosen, **_: {each.label: run for each in chosen.runs})
    out, rescue = tmp_path / "out", tmp_path / "rescue"
    rescue.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(rescue))
    if command == "report":
        assert main(["solve", "--out", str(out)]) == 0
        arguments = ["report", str(out)]
    else:
        arguments = [*COMMANDS[command], "--out", str(out)]
    assert main(arguments) == 0
    before = contents(out)
    original = getattr(os, call)

    def fail(place, *more):
        path = os.readlink(f"/proc/self/fd/{place}") if isinstance(place, int) else str(place)
        if path.startswith(str(out)):
            raise OSError(fault, os.strerror(fault), path)
        return original(place, *more)

    monkeypatch.setattr(os, call, fail)
    capsys.readouterr()
    again = [*arguments, "--seed", "5"] if command != "report" else arguments
    assert main(again) == 1
    said = capsys.readouterr().err
    assert os.strerror(fault) in said
    assert said.count("\n") == 1
    assert contents(out) == before
    if command in ("solve", "simulate", "preset", "compare"):
        [saved] = rescue.iterdir()
        assert str(saved) in said
        assert {path.name for path in saved.iterdir()} == {name for name in before if not name.endswith(".png")}


@pytest.mark.usefixtures("fake_runs")
def test_a_folder_that_vanishes_during_the_run_costs_nothing(tmp_path, monkeypatch, capsys, make_theory):
    """As one that becomes read-only, which root may write all the same."""
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    out = tmp_path / "out"

    def solve(*_, **__):
        out.rmdir()
        return make_theory()

    monkeypatch.setitem(vars(dmft), "solve", solve)
    assert main(["solve", "--out", str(out)]) == 1
    [saved] = tmp_path.glob("dmft-*")
    assert str(saved) in capsys.readouterr().err
    xarray.testing.assert_identical(xarray.load_dataset(saved / "theory.nc", engine="h5netcdf"), make_theory())


@pytest.mark.slow
@pytest.mark.parametrize("command", COMMANDS)
def test_kills_lose_nothing_that_was_finished(command, tmp_path):
    """Results of an earlier run stay whole, or are those of the run that was killed; what was stored stays stored."""
    out = tmp_path / "out"
    arguments = [sys.executable, "-m", "compare.cli", *COMMANDS[command], "--out", str(out)]
    subprocess.run(arguments, check=True, capture_output=True)  # compiles
    start, before = time.monotonic(), contents(out)
    subprocess.run(arguments, check=True, capture_output=True)
    seconds = time.monotonic() - start
    draw = random.Random(0)
    for kill in range(4):
        more = ["--seed", "7"] if kill % 2 else []
        process = subprocess.Popen([*arguments, *more], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        time.sleep(draw.uniform(0.3, 1.1) * seconds)
        process.send_signal(signal.SIGKILL)
        process.wait()
        after = contents(out)
        assert set(before) <= set(after)
        for name in (name for name in after if name.startswith("unfinished/") and name.endswith(".nc")):
            decode(after[name])
        for name in before:
            if name.endswith(".nc"):
                xarray.load_dataset(out / name, engine="h5netcdf")
            if name.startswith("points/"):
                assert after[name] == before[name]
    subprocess.run(arguments, check=True, capture_output=True)
    again = contents(out)
    assert not [name for name in again if name.startswith("unfinished/")]
    assert {name: again[name] for name in before if name.startswith(("points/", "phase."))} == {
        name: before[name] for name in before if name.startswith(("points/", "phase."))
    }


@pytest.mark.usefixtures("fake_runs")
@pytest.mark.parametrize("command", ["compare", "preset"])
def test_parts_that_were_finished_are_not_computed_again(command, tmp_path, monkeypatch, capsys, make_simulation):
    """The second part is killed; the first is taken by the same command, and by no other."""
    started, alive = [], []
    theory, run = dmft.solve(), make_simulation(step=0.1, samples=100, seeds=2)

    def part(result):
        started.append(result)
        if len(started) == 2 and not alive:
            raise KeyboardInterrupt
        return result

    monkeypatch.setitem(vars(dmft), "solve", lambda *_, **__: part(theory))
    monkeypatch.setitem(vars(sim), "simulate", lambda *_, **__: part(run))
    monkeypatch.setattr("sim.simulation.simulate", lambda *_, **__: part(run))
    arguments = [*COMMANDS[command], "--out", str(tmp_path)]

    def run_it(*more):
        started.clear()
        capsys.readouterr()
        assert main([*arguments, *more]) == 0
        return len(started), "finished before, kept in" in capsys.readouterr().out

    assert main(arguments) == 130
    [kept] = (tmp_path / "unfinished").glob("*.nc")
    content = kept.read_bytes()
    alive.append(True)
    parts, taken = run_it("--seed", "7")
    assert (parts, taken) == ({"compare": 2, "preset": 3}[command], False)
    assert not kept.parent.exists()
    kept.parent.mkdir()
    kept.write_bytes(content)
    assert run_it() == (parts - 1, True)
    assert not kept.parent.exists()
    kept.parent.mkdir()
    kept.write_bytes(content[:-1])  # damaged: computed again
    assert run_it() == (parts, False)


def test_the_defaults_of_the_command_line_are_those_of_the_functions():
    import inspect

    from sim.request import flow_rtol

    for function, others in ((dmft.solve, set()), (sim.simulate, {"rtol"})):
        signature = inspect.signature(function).parameters
        for name in set(DEFAULTS) & set(signature) - {"t_max", "checkpoint_every"} - others:
            assert DEFAULTS[name] == signature[name].default, name
    # a tolerance is that of the theory; what it means for the simulation's steps
    assert flow_rtol(DEFAULTS["rtol"], "float64") == inspect.signature(sim.simulate).parameters["rtol"].default
    assert inspect.signature(phase_diagram).parameters["threshold"].default == 0.1
