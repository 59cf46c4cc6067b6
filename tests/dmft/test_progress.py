"""What is told of a long run, where, and when; and what it is expected to take."""

import io
import sys
import time
import types

import pytest

import dmft
import sim
from dmft import Model, ParameterError, progress
from dmft.compiled import executables
from dmft.dry_run import theory_cost


class Terminal(io.StringIO):
    def isatty(self):
        return True


def told(monkeypatch, wanted, stream, *, seconds=0.3, done=5):
    """What is said of a run that has done `done` of 10 parts, with short pauses."""
    monkeypatch.setattr(progress, "PAUSES", {"terminal": 0.02, "notebook": 0.02, "elsewhere": 0.1})
    monkeypatch.setattr(sys, "stderr", stream)
    with progress.progress_report("theory", wanted) as report:
        report(done, 10)
        time.sleep(seconds)
    return stream.getvalue()


def test_a_short_run_says_nothing_unless_asked(monkeypatch):
    assert told(monkeypatch, None, Terminal()) == ""
    assert told(monkeypatch, None, io.StringIO()) == ""
    assert "50%" in told(monkeypatch, True, Terminal())
    assert told(monkeypatch, True, io.StringIO()) == ""
    assert told(monkeypatch, False, Terminal()) == ""


def test_a_long_run_shows_a_bar_and_the_time_that_is_left(monkeypatch):
    monkeypatch.setattr(progress, "LONG", 0.1)
    said = told(monkeypatch, None, Terminal())
    assert "\rtheory: [###############...............] 50%, " in said
    assert " left" in said
    assert said.endswith("\r")  # and leaves nothing behind
    assert said.rpartition("\r")[0].endswith(" ")
    assert told(monkeypatch, False, Terminal()) == ""


def test_elsewhere_a_long_run_says_a_line_now_and_then(monkeypatch):
    monkeypatch.setattr(progress, "LONG", 0.1)
    lines = told(monkeypatch, None, io.StringIO(), seconds=0.35).splitlines()
    assert 1 <= len(lines) <= 3
    assert lines[0].startswith("theory: 50%, 0.")
    assert "beginning" in told(monkeypatch, None, io.StringIO(), done=0)
    assert progress.PAUSES["elsewhere"] == 0.1


def test_a_notebook_is_told_as_a_terminal_is(monkeypatch):
    monkeypatch.setattr(progress, "LONG", 0.1)
    shell = types.SimpleNamespace(get_ipython=lambda: types.SimpleNamespace(kernel=object()))
    monkeypatch.setitem(sys.modules, "IPython", shell)
    assert "\rtheory: [####" in told(monkeypatch, None, io.StringIO())


def test_a_stream_that_is_closed_ends_nothing(monkeypatch):
    monkeypatch.setattr(sys, "stderr", None)
    with progress.progress_report("theory", None) as report:
        report(1, 2)


def test_estimates_are_those_of_a_dry_run():
    model = Model(alpha=1.0, epsilon=0.5, kappa=3.0, dim=20)
    short, long = (dmft.estimate(model, t_max, step=0.2) for t_max in (2.0, 20.0))
    assert long.seconds > short.seconds > 0.0
    assert long.memory_bytes >= short.memory_bytes > 1e8
    one, two = (dmft.estimate(model, 20.0, step=0.2, spread=draws).seconds - long.seconds for draws in (64, 128))
    assert two == pytest.approx(2 * one)
    assert one > 0.0
    few, many = (sim.estimate(model, 5.0, step=0.1, seeds=seeds) for seeds in (2, 20000))
    assert many.seconds > few.seconds > 0.0
    assert few.work == "2 x 50 steps"
    assert "about" in few.describe()


@pytest.mark.slow
def test_an_estimate_knows_what_is_compiled(tmp_path, monkeypatch):
    """The compiler's share is there until the programs are, in memory or in the cache folder."""
    monkeypatch.setenv("DMFT_CACHE", str(tmp_path))
    executables.forget()
    model, settings = Model(alpha=1.0, epsilon=0.5, kappa=2.0), {"step": 0.2, "replicas": 4}
    cold = theory_cost(model, t_max=0.4, **settings)
    assert cold.missing == cold.programs == 2
    before = executables.COUNTS["compiled"]
    first = dmft.estimate(model, 0.4, **settings)
    assert executables.COUNTS["compiled"] == before  # nothing was made for it
    dmft.solve(model, 0.4, **settings)
    assert executables.COUNTS["compiled"] == before + cold.missing
    for _ in range(2):
        assert theory_cost(model, t_max=0.4, **settings).missing == 0
        assert first.seconds - dmft.estimate(model, 0.4, **settings).seconds > 5.0
        executables.forget()


@pytest.mark.parametrize("estimate", [dmft.estimate, sim.estimate])
def test_arguments_of_an_estimate_are_checked(estimate):
    model = Model(alpha=1.0, epsilon=0.5, kappa=3.0, dim=20)
    with pytest.raises(ParameterError, match="`stepp` is none of estimate; did you mean `step`"):
        estimate(model, 5.0, stepp=0.2)
    with pytest.raises(ParameterError, match=r"`model` must be a dmft\.Model"):
        estimate(3, 5.0)
