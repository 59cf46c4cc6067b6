"""The options of the command line: each is listed here, once, and the same name is a key of the TOML file.

An option left out takes its value from the file, else from DEFAULTS: `compare.cli.settings` makes the settings of them.
"""

from __future__ import annotations

import dataclasses
from typing import Annotated, Any, Literal

from cyclopts import Parameter

from compare.sweep.axes import SYNTAX
from compare.sweep.request import Sweep

#: The built-in case: it learns its training set first and the rule much later.
BUILT_IN_CASE: dict[str, Any] = {"alpha": 1.0, "epsilon": 0.25, "kappa": 5.5, "dim": 100, "initial_overlap": 0.1}

#: What `dmft compare` shows of it too, where nothing is asked for but what is named here.
BUILT_IN_VIEW: dict[str, Any] = {"spread": True, "second_dim": 200, "rtol": 0.02, "precision": "float32"}
BESIDE_VIEW = ("t_max", "atol", "seeds", "seed", "out", *BUILT_IN_VIEW)

#: What the other options are when left out, as in `dmft.solve` and `sim.simulate` (a test compares them).
DEFAULTS: dict[str, Any] = {
    "t_max": 60.0,
    "step": None,
    "rtol": 0.01,
    "atol": 1e-5,
    "seeds": 8,
    "form": "auto",
    "kernels": False,
    "max_seconds": None,
    "spread": False,
    "precision": "float64",
    "seed": 0,
    "out": "dmft-out",
    "optimizer": "gd",
    "schedule": "constant",
    "checkpoint_every": None,
    "resume": False,
    "stop_below": None,
}

#: What those of `dmft phase` are; its axes are PHASE_AXES if none is given.
PHASE_DEFAULTS: dict[str, Any] = {
    "t_max": 100.0,
    **{field.name: field.default for field in dataclasses.fields(Sweep) if field.default is not dataclasses.MISSING},
}
PHASE_AXES = ("alpha=0.25:4:6:log", "kappa=1:16:6:log")
#: What those of `dmft sensitivity` and `dmft fit` are, as in `dmft.sensitivity` and `compare.fit`.
BACKWARDS_DEFAULTS: dict[str, Any] = {
    "wrt": "alpha,epsilon,kappa",
    "threshold": 0.1,
    "free": "alpha,epsilon",
    "starts": 4,
    "intervals": True,
}
#: Points beyond which `dmft phase` asks for --yes.
MANY = 10**5

JSON_HELP = "Answer with one JSON object on standard output."

Form = Literal["auto", "network", "reduced"]
Precision = Literal["float64", "float32"]
Rule = Literal["gd", "momentum", "nesterov", "adam", "adamw"]
Schedule = Literal["constant", "linear", "cosine"]


def _whole(_type: Any, tokens: Any) -> int:
    """Read an integer as such: 1.5 is refused, not rounded."""
    text = tokens[0].value
    try:
        return int(text)
    except ValueError:
        raise ValueError(f"must be an integer, but is {text!r}") from None


def _reals(_type: Any, tokens: Any) -> float | tuple[float, ...]:
    """Read one number, or several with commas between them."""
    text = tokens[0].value
    try:
        numbers = tuple(float(part) for part in text.split(","))
    except ValueError:
        raise ValueError(f"must be a number, or numbers with commas between them, but is {text!r}") from None
    return numbers[0] if len(numbers) == 1 else numbers


_Real = float | None
#: Several come as a tuple.
_Reals = Annotated[float | None, Parameter(converter=_reals)]
_Whole = Annotated[int | None, Parameter(converter=_whole)]


def _help(text: str, name: str = "", defaults: dict[str, Any] = DEFAULTS) -> Parameter:
    """Help for the option `name`, with the value it takes when it is left out."""
    for label, values in (("default", defaults), ("built-in case", BUILT_IN_CASE)):
        if values.get(name) is not None:
            value = values[name]
            text += f" [{label}: {f'{value:g}' if isinstance(value, float) else value}]"
    return Parameter(help=text)


def _switch(text: str) -> Parameter:
    """A flag that is either given or not."""
    return Parameter(help=text, negative=(), show_default=False)


@dataclasses.dataclass(frozen=True, kw_only=True)
class ModelOptions:
    """The fields of `dmft.Model`."""

    alpha: Annotated[_Real, _help("Output scale (laziness), > 0.", "alpha")] = None
    epsilon: Annotated[_Real, _help("Weight of the quadratic feature, >= 0.", "epsilon")] = None
    kappa: Annotated[_Real, _help("Sample ratio P / D, > 0.", "kappa")] = None
    dim: Annotated[_Whole, _help("Input dimension D >= 2; left out: infinite (a simulation needs it).", "dim")] = None
    width: Annotated[_Whole, _help("Number of hidden neurons N >= 1; left out: infinite.")] = None
    initial_overlap: Annotated[_Reals, _help("Planted overlap with the target, >= 0.", "initial_overlap")] = None
    centered: Annotated[bool | None, _help("Train f - f(t=0) instead of f.")] = None
    label_noise: Annotated[_Real, _help("Standard deviation of the noise on training labels, >= 0.")] = None
    weight_decay: Annotated[_Real, _help("Rate of weight decay, >= 0.")] = None
    strengths: Annotated[
        _Reals, _help("Strength of each direction of the target, > 0: 1,0.5 are two [default: 1].")
    ] = None


RTOL_HELP = "Relative error allowed to the theory's losses, > 0; a tenth of it to the simulation's, in gradient flow."


@dataclasses.dataclass(frozen=True, kw_only=True)
class RunOptions:
    """What theory and simulation share."""

    t_max: Annotated[_Real, _help("Training time, > 0.", "t_max")] = None
    step: Annotated[_Real, _help("Step of gradient descent, > 0; left out: gradient flow.")] = None
    rtol: Annotated[_Real, _help(RTOL_HELP, "rtol")] = None
    precision: Annotated[Precision | None, _help("Floating-point numbers.", "precision")] = None
    seed: Annotated[_Whole, _help("Random stream, >= 0.", "seed")] = None
    out: Annotated[str | None, _help("Folder for the results.", "out")] = None
    config: Annotated[str | None, _help("TOML file of options (initial_overlap = 0.1); options win over it.")] = None


@dataclasses.dataclass(frozen=True, kw_only=True)
class TheoryOptions:
    """The solver's accuracy, and what it predicts beside the mean."""

    atol: Annotated[_Real, _help("Error allowed to them beside it, in units of the first loss, >= 0.", "atol")] = None


@dataclasses.dataclass(frozen=True, kw_only=True)
class SpreadOptions:
    """What a single run is judged by."""

    spread: Annotated[bool | None, _help("Predict the spread over data sets of --dim too: how far one run lies.")] = (
        None
    )


@dataclasses.dataclass(frozen=True, kw_only=True)
class SimulationOptions:
    """The simulation's size and form."""

    seeds: Annotated[_Whole, _help("Independent draws of data and weights, >= 1.", "seeds")] = None
    form: Annotated[Form | None, _help("Plain network, exact reduced form, or the cheaper one.", "form")] = None


@dataclasses.dataclass(frozen=True, kw_only=True)
class RuleOptions:
    """How descent moves, in theory and simulation."""

    optimizer: Annotated[Rule | None, _help("Optimiser; its learning rate is --step.", "optimizer")] = None
    momentum: Annotated[_Real, _help("Of momentum and nesterov, >= 0 and < 1 [default: 0.9].")] = None
    schedule: Annotated[Schedule | None, _help("Learning rate along the run, falling to 0.", "schedule")] = None
    warmup: Annotated[_Whole, _help("First steps over which the learning rate rises, >= 0.")] = None


@dataclasses.dataclass(frozen=True, kw_only=True)
class TrainingOptions(RuleOptions):
    """How the simulated network is trained, where the run may stop, and how it is saved."""

    batch_size: Annotated[_Whole, _help("Samples in a minibatch, 1 to P; left out: all.")] = None
    replacement: Annotated[bool | None, _help("Draw minibatches with replacement instead of by epochs.")] = None
    stop_below: Annotated[str | None, _help("End when all seeds are below, as in test_loss=0.1,train_loss=0.01.")] = (
        None
    )
    checkpoint_every: Annotated[_Real, _help("Save the run every so many seconds, >= 0.")] = None
    resume: Annotated[bool | None, _help("Go on from the checkpoint in --out, if there is one.")] = None


@dataclasses.dataclass(frozen=True, kw_only=True)
class AnswerOptions:
    """How a command answers; no keys of the TOML file."""

    json: Annotated[bool, _switch(JSON_HELP)] = False
    dry_run: Annotated[bool, _switch("Print settings, memory and time; run nothing.")] = False
    cache: Annotated[str | None, _help("Folder that keeps what is compiled, or off; left out: see DMFT_CACHE.")] = None


@Parameter(name="*")
@dataclasses.dataclass(frozen=True, kw_only=True)
class SolveOptions(AnswerOptions, SpreadOptions, TheoryOptions, RuleOptions, RunOptions, ModelOptions):
    """Options of `dmft solve`."""

    kernels: Annotated[bool | None, _help("Write the two-time kernels too.", "kernels")] = None
    max_seconds: Annotated[_Real, _help("The best curves within so many seconds, > 0; left out: as --rtol asks.")] = (
        None
    )


@Parameter(name="*")
@dataclasses.dataclass(frozen=True, kw_only=True)
class SimulateOptions(AnswerOptions, TrainingOptions, SimulationOptions, RunOptions, ModelOptions):
    """Options of `dmft simulate`."""

    preset: Annotated[str | None, _help("Runs of a figure of the paper (docs: paper runs), such as fig1.")] = None


@dataclasses.dataclass(frozen=True, kw_only=True)
class ColumnOptions:
    """The columns of runs of one's own, and their conventions."""

    time: Annotated[str | None, _help("Column of times [default: time; with --learning-rate: step].")] = None
    train: Annotated[str | None, _help("Column of train losses [default: train_loss].")] = None
    test: Annotated[str | None, _help("Column of test losses [default: test_loss].")] = None
    loss: Annotated[str | None, _help("They are: mean (of squares), half, root, log, log10, or a number times it.")] = (
        None
    )
    learning_rate: Annotated[_Real, _help("Turns steps into time, with --dim and --width; > 0.")] = None
    loss_factor: Annotated[_Real, _help("It multiplies the gradient of this times half a mean square.")] = None


@dataclasses.dataclass(frozen=True, kw_only=True)
class MeasuredOptions(ColumnOptions):
    """Runs of one's own, in the place of the simulation: the arguments of `compare.read_run`."""

    measured: Annotated[
        list[str] | None,
        Parameter(
            help="Files of runs of your own (.csv, .tsv, .nc, .npz, .jsonl).", consume_multiple=True, negative=()
        ),
    ] = None
    runs: Annotated[_Whole, _help("Of how many runs a measured mean with errors is, >= 2.")] = None
    test_samples: Annotated[_Whole, _help("Of how many inputs the test loss is a mean, for one run.")] = None


@Parameter(name="*")
@dataclasses.dataclass(frozen=True, kw_only=True)
class CompareOptions(
    MeasuredOptions,
    AnswerOptions,
    SpreadOptions,
    SimulationOptions,
    TheoryOptions,
    RuleOptions,
    RunOptions,
    ModelOptions,
):
    """Options of `dmft compare`."""

    second_dim: Annotated[_Whole, _help("A second D to simulate at and draw beside the first, >= 2.")] = None
    dims: Annotated[
        str | None, _help("Simulate at several D, such as 100,200,400, and extrapolate to the theory of infinite D.")
    ] = None


@Parameter(name="*")
@dataclasses.dataclass(frozen=True, kw_only=True)
class SensitivityOptions(AnswerOptions, TheoryOptions, RunOptions, ModelOptions):
    """Options of `dmft sensitivity`."""

    wrt: Annotated[
        str | None, _help("Parameters > 0, such as alpha,epsilon,kappa,step.", "wrt", BACKWARDS_DEFAULTS)
    ] = None
    threshold: Annotated[_Real, _help("Loss that counts as learnt, > 0.", "threshold", BACKWARDS_DEFAULTS)] = None


@Parameter(name="*")
@dataclasses.dataclass(frozen=True, kw_only=True)
class FitOptions(ColumnOptions, AnswerOptions, RunOptions, ModelOptions):
    """Options of `dmft fit`; the model is where it starts."""

    free: Annotated[
        str | None, _help("Parameters to be found, and time for its scale.", "free", BACKWARDS_DEFAULTS)
    ] = None
    starts: Annotated[_Whole, _help("Places to start from, >= 1.", "starts", BACKWARDS_DEFAULTS)] = None
    intervals: Annotated[
        bool | None,
        _help("Compute profile intervals, which takes as long as the fit.", "intervals", BACKWARDS_DEFAULTS),
    ] = None


@dataclasses.dataclass(frozen=True, kw_only=True)
class SweepOptions:
    """The grid of `dmft phase` and where it is computed."""

    x: Annotated[str | None, _help(f"{SYNTAX}: first axis [default: {PHASE_AXES[0]}, with {PHASE_AXES[1]} as y].")] = (
        None
    )
    y: Annotated[str | None, _help("Second axis, likewise; left out: a sweep along x.")] = None
    threshold: Annotated[_Real, _help("Loss that counts as learnt, > 0.", "threshold", PHASE_DEFAULTS)] = None
    ratio: Annotated[_Real, _help("A run groks if t_test > ratio * t_train.", "ratio", PHASE_DEFAULTS)] = None
    theory: Annotated[bool | None, _help("Solve the theory at every point.", "theory", PHASE_DEFAULTS)] = None
    simulate_every: Annotated[
        _Whole, _help("Simulate at every so many values of each axis; 0: nowhere.", "simulate_every", PHASE_DEFAULTS)
    ] = None
    simulation_step: Annotated[_Real, _help("Step of the simulation alone, > 0; left out: as --step.")] = None
    workers: Annotated[_Whole, _help("Processes on this machine; left out: one per two cores.")] = None
    scheduler: Annotated[str | None, _help("Address of a dask scheduler whose workers compute the points.")] = None
    retry_failed: Annotated[bool | None, _help("Compute again what failed before.")] = None
    yes: Annotated[bool | None, _help(f"Go on with more than {MANY} points.")] = None


@Parameter(name="*")
@dataclasses.dataclass(frozen=True, kw_only=True)
class PhaseOptions(AnswerOptions, SweepOptions, SimulationOptions, TheoryOptions, RunOptions, ModelOptions):
    """Options of `dmft phase`."""

    spread: Annotated[bool | None, _help("Predict how likely one run at --dim groks, too.", "spread")] = None
    t_max: Annotated[_Real, _help("Training time of every point, > 0.", "t_max", PHASE_DEFAULTS)] = None
    rtol: Annotated[_Real, _help(RTOL_HELP, "rtol", PHASE_DEFAULTS)] = None
    atol: Annotated[
        _Real, _help("Error allowed to them beside it, in units of the first loss, >= 0.", "atol", PHASE_DEFAULTS)
    ] = None


@Parameter(name="*")
@dataclasses.dataclass(frozen=True, kw_only=True)
class ExploreOptions(ModelOptions):
    """Options of `dmft explore`; the model's say where the sliders begin."""

    t_max: Annotated[_Real, _help("Training time where its slider begins, > 0.", "t_max")] = None
    port: Annotated[_Whole, _help("Port of this machine for the page; left out: a free one.")] = None
    no_browser: Annotated[bool, _switch("Print the page's address alone.")] = False


@Parameter(name="*")
@dataclasses.dataclass(frozen=True, kw_only=True)
class TrainOptions:
    """Options of `dmft train`."""

    preset: Annotated[str | None, _help("Runs of a figure of one of the papers; --list names them.")] = None
    list: Annotated[bool, _switch("Name the presets.")] = False
    full: Annotated[bool, _switch("The paper's sizes, in place of those for two cores and three minutes.")] = False
    seeds: Annotated[int, Parameter(converter=_whole, help="Independent draws of data and weights, >= 1.")] = 4
    seed: Annotated[int, Parameter(converter=_whole, help="Random stream of the weights, >= 0.")] = 0
    out: Annotated[str, Parameter(help="Folder for the results.")] = "dmft-out"
    json: Annotated[bool, _switch(JSON_HELP)] = False
    dry_run: Annotated[bool, _switch("Print settings, memory and time; run nothing.")] = False
