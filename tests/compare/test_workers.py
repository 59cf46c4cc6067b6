"""Workers: every point is answered once, whatever happens to the processes."""

import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from collections import Counter
from pathlib import Path

import pytest

from compare.sweep import workers
from compare.sweep.points import Failure, Point
from compare.sweep.workers import WorkersError, dask_runner, local_runner
from dmft import Model, ParameterError

MODEL = Model(alpha=1.0, epsilon=0.0, kappa=2.0, dim=20)
STUB = (sys.executable, str(Path(__file__).with_name("stub_worker.py")))


@pytest.fixture
def make_points(tmp_path, monkeypatch):
    monkeypatch.setattr(workers, "command", lambda: list(STUB))
    log = tmp_path / "log"
    log.touch()

    def make(*endings, sleep=0.0):
        return [
            Point(
                side="simulation",
                model=MODEL,
                settings={"log": str(log), "name": f"{i}", "ending": ending, "sleep": sleep},
            )
            for i, ending in enumerate(endings)
        ]

    make.log = lambda: [tuple(line.split()) for line in log.read_text().splitlines()]
    return make


def outcomes(runner, points):
    return {point.settings["name"]: outcome for point, outcome in runner(points)}


def wait_for(condition, seconds=60.0):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.02)


def alive(pid):
    """Whether a process is there and no zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        return False


def test_every_point_is_answered_once_by_as_many_processes_as_asked(make_points):
    points = make_points("done", "failed", "done", "done", "done", "done", sleep=0.3)
    found = outcomes(local_runner(2), points)
    assert found == {name: Failure("no luck") if name == "1" else name.encode() for name in "012345"}
    log = make_points.log()
    assert Counter(name for _, name in log) == Counter("012345")
    assert len({pid for pid, _ in log}) == 2
    wait_for(lambda: not any(alive(pid) for pid, _ in log))


def test_a_killed_worker_costs_its_point_s_time_only(make_points):
    points = make_points(*["done"] * 6, sleep=0.5)

    def kill_the_third():
        wait_for(lambda: len(make_points.log()) >= 3)
        os.kill(int(make_points.log()[2][0]), signal.SIGKILL)

    threading.Thread(target=kill_the_third).start()
    assert outcomes(local_runner(2), points) == {name: name.encode() for name in "012345"}
    counts = Counter(name for _, name in make_points.log())
    assert sorted(counts.values()) == [1, 1, 1, 1, 1, 2]
    assert counts[make_points.log()[2][1]] == 2


def test_a_point_that_kills_its_workers_fails_and_the_others_go_on(make_points):
    found = outcomes(local_runner(1), make_points("done", "dies", "done"))
    assert found["0"] == b"0"
    assert found["2"] == b"2"
    assert "died 3 times" in found["1"].message
    assert Counter(name for _, name in make_points.log()) == {"0": 1, "1": 3, "2": 1}


def test_other_numerics_end_the_run(make_points):
    with pytest.raises(WorkersError, match="other numerics"):
        outcomes(local_runner(1), make_points("done", "refused", "done"))


def test_who_stops_listening_ends_the_workers(make_points):
    run = local_runner(2)(make_points(*["done"] * 4, sleep=1.0))
    next(run)
    run.close()
    wait_for(lambda: not any(alive(pid) for pid, _ in make_points.log()), 5.0)


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="needs /proc")
def test_workers_end_with_their_parent_whatever_ends_it(make_points):
    points = make_points(*["done"] * 2, sleep=60.0)
    code = f"""
        from compare.sweep import workers
        from compare.sweep.points import Point
        from dmft import Model
        workers.command = lambda: {list(STUB)!r}
        points = [Point(side="simulation", model={MODEL!r}, settings=settings)
                  for settings in {[point.settings for point in points]!r}]
        list(workers.local_runner(2)(points))
    """
    parent = subprocess.Popen([sys.executable, "-c", textwrap.dedent(code)])
    wait_for(lambda: len(make_points.log()) == 2)
    parent.kill()
    parent.wait()
    wait_for(lambda: not any(alive(pid) for pid, _ in make_points.log()), 5.0)


def test_workers_share_the_cores(make_points, monkeypatch):
    monkeypatch.setattr(workers, "cores", lambda: list(range(8)))
    given = []
    monkeypatch.setattr(workers, "_Slot", lambda cores: given.append(cores) or workers_slot([]))
    outcomes(local_runner(), make_points(*["done"] * 9))
    assert given == [[0, 4], [1, 5], [2, 6], [3, 7]]


workers_slot = workers._Slot


# dask


def test_a_scheduler_that_does_not_answer_is_named(monkeypatch):
    pytest.importorskip("distributed")
    monkeypatch.setattr(workers, "PATIENCE", 0.5)
    for address in ("tcp://127.0.0.1:1", "nonsense://x"):
        with pytest.raises(ParameterError, match="`scheduler`") as caught:
            dask_runner(address)
        assert address in str(caught.value)
        assert "\n" not in str(caught.value)


def simulations(count, t_max=0.4):
    settings = {"t_max": t_max, "step": 0.2, "precision": "float64", "seeds": 2, "form": "auto"}
    return [Point(side="simulation", model=MODEL, settings=settings | {"seed": seed}) for seed in range(count)]


@pytest.mark.slow
def test_a_worker_killed_under_dask_costs_its_point_s_time_only():
    distributed = pytest.importorskip("distributed")
    points = simulations(6, t_max=1e4)  # seconds each
    with distributed.LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None) as cluster:
        ended = {}
        with distributed.Client(cluster) as client:
            pids = list(client.run(os.getpid).values())
        for point, outcome in dask_runner(cluster.scheduler_address)(points):
            if not ended:
                os.kill(pids[0], signal.SIGKILL)
            assert point.name not in ended
            ended[point.name] = outcome
    assert ended == {point.name: outcome for point, outcome in local_runner(1)(points)}
    assert all(isinstance(outcome, bytes) for outcome in ended.values())


def test_a_dask_cluster_computes_what_a_local_process_does():
    distributed = pytest.importorskip("distributed")
    points = simulations(2)
    with distributed.LocalCluster(
        n_workers=1, threads_per_worker=1, processes=False, dashboard_address=None
    ) as cluster:
        there = {point.name: outcome for point, outcome in dask_runner(cluster.scheduler_address)(points)}
    assert there == {point.name: outcome for point, outcome in local_runner(1)(points)}
