"""`dmft sensitivity` and `dmft fit`: the theory differentiated, and run backwards."""

from __future__ import annotations

import contextlib
import warnings
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from compare.cli.answer import Answer
from compare.cli.options import BACKWARDS_DEFAULTS, DEFAULTS, ColumnOptions, FitOptions, SensitivityOptions
from compare.cli.settings import Settings, given_model, given_values, settle
from dmft.checks import ParameterError, RunError, check_path

if TYPE_CHECKING:
    import xarray

    from dmft import Model

#: Options of runs that have no meaning here.
WITHOUT = {"sensitivity": ("precision",), "fit": ("precision", "t_max")}


def _checked(command: str, given: dict[str, Any]) -> dict[str, Any]:
    for name in WITHOUT[command]:
        if name in given:
            raise ParameterError(f"Argument `{name}` must be left out with `dmft {command}`.")
    return BACKWARDS_DEFAULTS | given


def _names(argument: str, value: Any) -> tuple[str, ...]:
    """Names from a text such as alpha,epsilon."""
    if not isinstance(value, str):
        raise ParameterError(f"Argument `{argument}` must be names such as alpha,epsilon, but is {value!r}.")
    return tuple(name.strip().replace("-", "_") for name in value.split(","))


def sensitivity_settings(options: SensitivityOptions) -> tuple[Settings, dict[str, Any]]:
    """The settings of the theory, and what is asked beside them."""
    given = _checked("sensitivity", given_values(options))
    settings = settle(options, simulated=False)
    return settings, {"wrt": _names("wrt", given["wrt"]), "threshold": given["threshold"]}


def find_sensitivity(answer: Answer, settings: Settings, asked: dict[str, Any], folder: Path) -> None:
    """Differentiate, write sensitivity.nc and sensitivity.png, and tell."""
    from compare.cli.outputs import give
    from compare.figures.sensitivity import sensitivity_figure
    from compare.files import write_dataset
    from dmft import sensitivity

    names = ("model", "t_max", "step", "rtol", "atol", "seed")
    found = sensitivity(**{name: getattr(settings, name) for name in names}, **asked, progress=True)
    record = sensitivity_record(found, asked["wrt"])
    answer.say(f"\n{sensitivity_table(record)}\n")
    data = {"sensitivity.nc": partial(write_dataset, dataset=found)}
    give(answer, folder, data, {"sensitivity": partial(sensitivity_figure, found)}, result=record)


def sensitivity_record(found: xarray.Dataset, names: tuple[str, ...]) -> dict[str, Any]:
    """The threshold times and the losses at the end, with d log / d log parameter of each, JSON-able."""
    from compare.files import number

    rows: dict[str, Any] = {}
    last = found.isel(time=-1)
    for label in ("t_train", "t_test", "delay", "train_loss", "test_loss"):
        value = float(last[label])
        rows[label] = {"value": number(value), "error": number(last[f"{label}_error"])}
        rows[label]["by"] = {
            name: {
                key: number(last[f"{label}_by_{name}{end}"] / value)
                for key, end in (("value", ""), ("error", "_error"))
            }
            for name in names
        }
    return {"threshold": float(found.attrs["threshold"]), **rows}


def sensitivity_table(record: dict[str, Any]) -> str:
    """d log / d log parameter, one row each."""
    from compare.verdicts import aligned

    labels = {
        "t_train": f"time to train loss {record['threshold']:g}",
        "t_test": f"time to test loss {record['threshold']:g}",
        "delay": "delay",
        "train_loss": "train loss at t_max",
        "test_loss": "test loss at t_max",
    }

    def shown(one: dict[str, Any]) -> str:
        return "" if one["value"] is None else f"{one['value']:.4g} +- {one['error'] or 0.0:.1g}"

    rows: list[tuple[str, ...]] = [("", "value", *(f"by {name}" for name in record["t_train"]["by"]))]
    for key, label in labels.items():
        by = record[key]["by"].values()
        rows.append((label, shown(record[key]) or "not reached", *map(shown, by)))
    return f"d log(value) / d log(parameter):\n\n{aligned(rows)}"


def fit_settings(options: FitOptions, curves: tuple[str, ...]) -> tuple[Model, dict[str, Any], str]:
    """Where the fit starts, the arguments of `compare.fit`, and the folder."""
    if not curves:
        raise ParameterError("Argument `curves` must be files of measured curves, but none is given.")
    own = given_values(options)
    given = _checked("fit", own)
    names = [*ColumnOptions.__dataclass_fields__, "step", "rtol", "seed", "starts", "intervals"]
    asked = {name: given[name] for name in names if name in given}
    with contextlib.suppress(KeyError, TypeError, ValueError):  # a name, or left out
        asked["loss"] = float(asked["loss"])
    asked["free"] = _names("free", given["free"])
    return given_model(own), asked, str(check_path("out", given.get("out", DEFAULTS["out"])))


def fit_curves(answer: Answer, model: Model, asked: dict[str, Any], curves: list[str], folder: Path) -> None:
    """Fit, write fit.json and fit.png, and tell.

    Raises:
        RunError: the fit ended on a bound or did not converge; all is written.
    """
    from compare.cli.outputs import give
    from compare.files import write_json
    from compare.fitting.fit import FitWarning, fit

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FitWarning)  # it is among the notes
        found = fit(curves[0] if len(curves) == 1 else curves, model, **asked)
    answer.say(f"{found!r}\n")
    summary = found.summary()
    give(answer, folder, {"fit.json": partial(write_json, content=summary)}, {"fit": found.plot}, result=summary)
    if not found.converged:
        raise RunError(next(note for note in found.notes if note.startswith("The fit")))
