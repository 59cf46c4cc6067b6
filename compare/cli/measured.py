"""`dmft compare --measured`: runs of one's own in the place of the simulation."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

from compare.cli.options import CompareOptions, MeasuredOptions
from compare.cli.settings import given_model, given_values
from dmft.checks import ParameterError, check_integer

if TYPE_CHECKING:
    import xarray

#: What only a simulation has.
SIMULATED = ("seeds", "form")
#: The theory is solved to the end of the runs, at most to here: theirs may count steps.
LATEST = 1e4


def with_measured(options: CompareOptions) -> tuple[CompareOptions, xarray.Dataset | None, int | None]:
    """The options, with the end of the runs for a `t_max` that is left out; the runs, and of how many they are means.

    Raises:
        ParameterError: the runs cannot be read; an option is given that has no meaning with them, or without them.
    """
    given = given_values(options)
    own = {field.name for field in dataclasses.fields(MeasuredOptions)}
    if "measured" not in given:
        for name in sorted(own & set(given)):
            raise ParameterError(f"Argument `{name}` must be left out without `measured`, of which it speaks.")
        return options, None, None
    for name in SIMULATED:
        if name in given and "dims" not in given:
            raise ParameterError(f"Argument `{name}` must be left out with `measured`: nothing is simulated.")
    from compare.conditions import differences
    from compare.own_run import read_run

    read: dict[str, Any] = {name: given[name] for name in own - {"measured", "runs"} if name in given}
    read["loss"] = _number_or_name(read.get("loss", "mean"))
    model = given_model(given)
    try:
        dataset = read_run(_paths(given["measured"]), **read, model=model)
    except ParameterError as error:  # which names the argument of read_run
        raise ParameterError(str(error).replace("`source", "`measured")) from None
    found = differences(model.to_attributes(), dataset.attrs, ("the options", "the file"))
    if found:
        raise ParameterError(f"Argument `measured` must be of the model that is solved, but {' and '.join(found)}.")
    if "t_max" not in given:
        options = dataclasses.replace(options, t_max=min(float(dataset["time"].to_numpy()[-1]), LATEST))
    runs = given.get("runs")
    return options, dataset, None if runs is None else check_integer("runs", runs, at_least=2)


def _paths(value: Any) -> Any:
    """One path, or a list of them, each of which is a run."""
    paths = [value] if isinstance(value, str) else value
    if not isinstance(paths, list) or not paths or not all(isinstance(path, str) and path for path in paths):
        raise ParameterError(f"Argument `measured` must be paths to files, but is {value!r}.")
    return paths[0] if len(paths) == 1 else paths


def _number_or_name(loss: Any) -> Any:
    try:
        return float(loss)
    except (TypeError, ValueError):
        return loss
