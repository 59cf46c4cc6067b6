"""`dmft sensitivity` and `dmft fit`."""

import inspect
import json

import numpy as np
import pandas
import pytest
import xarray

from compare import fit
from compare.cli import main
from compare.cli.options import BACKWARDS_DEFAULTS
from compare.fitting import fit as fitting
from compare.fitting.theory import Prediction
from dmft import sensitivity

SMALL = ["--alpha", "1", "--epsilon", "0.5", "--kappa", "2", "--initial-overlap", "0.2", "--rtol", "0.5"]


def test_what_is_left_out_is_as_in_python():
    defaults = {**inspect.signature(fit).parameters, **inspect.signature(sensitivity).parameters}
    for name, value in BACKWARDS_DEFAULTS.items():
        default = defaults[name].default
        assert value == (",".join(default) if isinstance(default, tuple) else default)


def test_sensitivities_are_written_drawn_and_told(tmp_path, capsys):
    call = ["sensitivity", *SMALL, "--t-max", "2", "--step", "0.2", "--threshold", "0.4", "--wrt", "alpha,step"]
    assert main([*call, "--out", str(tmp_path), "--json"]) == 0
    answer = json.loads(capsys.readouterr().out)
    with xarray.open_dataset(tmp_path / "sensitivity.nc", engine="h5netcdf") as found:
        ours = float(found.train_loss_by_step[-1] / found.train_loss[-1])
    assert answer["result"]["train_loss"]["by"]["step"]["value"] == pytest.approx(ours)
    assert answer["result"]["t_train"]["value"] > 0
    assert (tmp_path / "sensitivity.png").stat().st_size > 10_000
    assert main([*call, "--out", str(tmp_path)]) == 0
    assert "time to train loss 0.4" in capsys.readouterr().out
    assert main([*call, "--dry-run"]) == 0
    assert 'wrt = "alpha,step"' in capsys.readouterr().out


class Closed:
    """A closed form in the place of the solver."""

    def __init__(self, names, *_):
        self.names = names

    def predict(self, model, times):
        log = np.log([0.02 + np.exp(-model.alpha * times), 0.1 + np.exp(-model.epsilon * times)])
        up, down = (
            np.log([0.02 + np.exp(-model.alpha * t), 0.1 + np.exp(-model.epsilon * t)]) for t in (1.001 * times, times)
        )
        return Prediction(log, 1e-6 + 0 * log, (up - down) / 0.001)

    def derivatives(self, model, times, wrt):
        logs = [self.predict(model.replace(**{n: getattr(model, n) * 1.0001}), times).log for n in wrt]
        return np.stack([(log - self.predict(model, times).log) / 1e-4 for log in logs], axis=-1)

    def deviations(self, _model, _times):
        return None


@pytest.mark.parametrize(("alpha", "code"), [(1.5, 0), (50.0, 1)])
def test_a_fit_is_written_drawn_and_told(alpha, code, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(fitting, "Solved", Closed)
    times = np.geomspace(0.001, 5, 30)
    losses = {"loss": 0.02 + np.exp(-alpha * times), "val": 0.1 + np.exp(-0.4 * times)}
    pandas.DataFrame({"t": times} | losses).to_csv(tmp_path / "run.csv", index=False)
    columns = ["--time", "t", "--train", "loss", "--test", "val", "--loss", "1.0"]
    assert main(["fit", str(tmp_path / "run.csv"), *SMALL, *columns, "--out", str(tmp_path)]) == code
    told = capsys.readouterr()
    written = json.loads((tmp_path / "fit.json").read_text())
    assert (tmp_path / "fit.png").exists()
    if code:
        assert "dmft: The fit ended on a bound, alpha = 20" in told.err
        return
    assert written["parameters"]["alpha"]["value"] == pytest.approx(1.5, rel=1e-3)
    low, high = written["parameters"]["epsilon"]["interval_0.95"]
    assert low < 0.4 < high
    assert "alpha    1.5" in told.out
