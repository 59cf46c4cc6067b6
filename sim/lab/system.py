"""The system of a network on a task, for the driver (`sim.training.system`): what is drawn, descended and observed.

What is descended is the mean over the training samples of loss(alpha (f - f_0), y), with f_0 = 0 unless centred. The
state is a mapping: "network" the parameters, and "twin" those of the linearised network, if it is trained beside.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from dmft.checks import ParameterError, precision_context
from dmft.models.fingerprint import ByContent
from sim.lab.losses import Loss, outputs_for
from sim.lab.program import Program, parts
from sim.lab.watch import Measure, View, chosen
from sim.networks import Network, Shape
from sim.systems.state import With
from sim.tasks import Task
from sim.training.batches import replica_key
from sim.training.system import Equations, System


class Data(NamedTuple):
    """What is not trained.

    Attributes:
        x: training inputs; with them y, and which labels are wrong.
        y: labels.
        corrupted: (P,) bool.
        x_test: test inputs.
        y_test: labels.
        alpha: output scale.
        start: the initial parameters.
        offset: f_0 on the training set, (P, K), or ().
        offset_test: on the test set.
        key: raw random key of a step with dropout, or ().
    """

    x: Any
    y: Any
    corrupted: Any
    x_test: Any
    y_test: Any
    alpha: Any
    start: Any = ()
    offset: Any = ()
    offset_test: Any = ()
    key: Any = ()


class Pass(NamedTuple):
    """Outputs alpha (f - f_0) of one network, (P, K), and the function that pulls their gradient back."""

    z: jax.Array
    pull: Any


@dataclasses.dataclass(frozen=True, eq=False)
class Setup(ByContent):
    """What decides which equations are compiled."""

    program: Program
    loss: Loss
    centred: bool
    twin: bool
    tolerance: float | None
    outputs: int
    measures: tuple[Measure, ...]


def _plain(setup: Setup, parameters: Any, data: Data, x: Any, **how: Any) -> jax.Array:
    """f at the inputs x; of the twin its expansion at the start."""
    key = None if isinstance(data.key, tuple) else jax.random.wrap_key_data(data.key, impl="threefry2x32")
    return setup.program(parameters, x, key=key, **how)


def _expanded(setup: Setup, parameters: Any, data: Data, x: Any, **how: Any) -> jax.Array:
    """f_0 + (df/d theta)_0 (theta - theta_0)."""
    change = jax.tree.map(jnp.subtract, parameters, data.start)
    f, slope = jax.jvp(lambda p: _plain(setup, p, data, x, **how), (data.start,), (change,))
    return f + slope


NETWORKS: dict[str, Callable[..., jax.Array]] = {"network": _plain, "twin": _expanded}


def scaled(f: jax.Array, data: Data, offset: Any) -> jax.Array:
    """alpha (f - f_0)."""
    return data.alpha * (f if isinstance(offset, tuple) else f - offset)


def forward(setup: Setup, state: Any, data: Data) -> dict[str, Pass]:
    """A pass of each network."""

    def one(name: str) -> Pass:
        def outputs(p: Any) -> jax.Array:
            return scaled(NETWORKS[name](setup, p, data, data.x), data, data.offset)

        return Pass(*jax.vjp(outputs, state[name]))

    return {name: one(name) for name in state}


def gradient(setup: Setup, state: Any, data: Data, fields: dict[str, Pass]) -> Any:
    """Of the mean loss."""
    del state

    def one(passed: Pass) -> Any:
        slope = jax.grad(lambda z: jnp.mean(setup.loss.samples(z, data.y)))(passed.z)
        return passed.pull(slope)[0]

    return {name: one(passed) for name, passed in fields.items()}


def objective(setup: Setup, state: Any, data: Data, fields: dict[str, Pass]) -> jax.Array:
    """The mean loss."""
    del state
    return jnp.mean(setup.loss.samples(fields["network"].z, data.y))


def tested(setup: Setup, name: str, parameters: Any, data: Data) -> jax.Array:
    """Outputs on the test set; under BatchNorm by the statistics of the training set."""
    network, count = NETWORKS[name], len(data.x)
    if not setup.program.normalized:
        f = network(setup, parameters, data, data.x_test)
    else:
        f = network(setup, parameters, data, jnp.concatenate([data.x, data.x_test]), reference=count)[count:]
    return scaled(f, data, data.offset_test)


def prepare(setup: Setup, state: Any, data: Data) -> Data:
    """The data with what refers to the initial parameters."""
    data = data._replace(start=state["network"])
    if not setup.centred:
        return data
    first = data._replace(alpha=jnp.ones_like(data.alpha))
    f = _plain(setup, state["network"], first, data.x)
    return data._replace(offset=f, offset_test=tested(setup, "network", state["network"], first))


def select(data: Data, indices: jax.Array) -> Data:
    """The data of these samples."""
    offset = data.offset if isinstance(data.offset, tuple) else data.offset[indices]
    return data._replace(x=data.x[indices], y=data.y[indices], corrupted=data.corrupted[indices], offset=offset)


def randomized(data: Data, key: jax.Array) -> Data:
    """The data of a step with this random key."""
    return data._replace(key=jax.random.key_data(key))


def observe(setup: Setup, state: Any, data: Data, fields: dict[str, Pass]) -> jax.Array:
    """All that is watched, one number after the other."""
    parameters = state["network"]

    def function(p: Any, x: Any) -> jax.Array:
        return data.alpha * _plain(setup, p, data, x)

    view = View(
        function=function,
        program=setup.program,
        parameters=parameters,
        start=data.start,
        data=data,
        z=fields["network"].z,
        z_test=tested(setup, "network", parameters, data),
        gradient=gradient(setup, state, data, fields)["network"],
        loss=setup.loss,
        tolerance=setup.tolerance,
        twin=(fields["twin"].z, tested(setup, "twin", state["twin"], data)) if setup.twin else None,
        outputs=setup.outputs,
    )
    values = [value for measure in setup.measures for value in _ordered(measure, measure.values(view))]
    return jnp.concatenate([jnp.ravel(value).astype(view.z.dtype) for value in values])


def _ordered(measure: Measure, values: Mapping[str, Any]) -> list[Any]:
    return [values[name] for name in measure.meanings]


def draw(network: Network, task: Task, shape: Shape, alpha: float, twin: bool, seed: int, index: int) -> Any:
    """(state, data) of replica `index`."""
    arrays = task.draw(index)
    with precision_context("float64"):
        key = jax.random.fold_in(replica_key(seed, index), 5)
        drawn = {name: np.asarray(leaf) for name, leaf in parts(network.build(shape, key))[0].items()}
    state = {"network": drawn, **({"twin": drawn} if twin else {})}
    data = Data(arrays.x, arrays.y, arrays.corrupted, arrays.x_test, arrays.y_test, np.float64(alpha))
    return state, data


def lab_system(
    network: Network, task: Task, loss: Loss, *, alpha: float, centred: bool, watched: Any, precision: str, seed: int
) -> System:
    """The system of a network on a task.

    Raises:
        ParameterError: the network, or a measure, does not fit.
    """
    arrays = task.draw(0)
    shape = Shape(arrays.x.shape[1:], task.vocabulary, outputs_for(loss, task))
    with precision_context("float64"):
        parameters, program = parts(network.build(shape, replica_key(seed, 0)))
        check_outputs(program, parameters, arrays.x, shape.outputs)
    wrong = bool(np.any(arrays.corrupted))
    measures = tuple(chosen(watched, program, wrong))
    twin = any("linearized_train_loss" in measure.meanings for measure in measures)
    setup = Setup(program, loss, centred, twin, task.tolerance, shape.outputs, measures)
    count = sum(np.size(leaf) for leaf in parameters.values())
    work = cost(setup, parameters, arrays, precision)
    return System(
        equations=Equations(
            forward=With(forward, (setup,)),
            gradient=With(gradient, (setup,)),
            observe=With(observe, (setup,)),
            prepare=With(prepare, (setup,)),
            select=select,
            objective=None if twin else With(objective, (setup,)),
            randomize=randomized if program.random else None,
        ),
        draw=With(draw, (network, task, shape, alpha, twin)),
        observables={name: meaning for measure in measures for name, meaning in measure.meanings.items()},
        shapes={name: sizes for measure in measures for name, sizes in measure.sizes(parameters).items()},
        samples=len(arrays.x),
        operations=work.operations * (3.0 if twin else 1.0),
        numbers=work.numbers * (3.0 if twin else 1.0) + 6.0 * count,
        drawing_bytes=16.0 * sum(array.size for array in arrays) + 8.0 * count,
        sizes=f"{count} parameters, samples = {len(arrays.x)}",
        description={**network.to_attributes(), **task.to_attributes(), "loss": loss.name, "alpha": alpha}
        | {"centred": int(centred), "measures": ", ".join(sorted({n for m in measures for n in m.meanings}))},
        functions={"network": network, "loss": loss.samples},
    )


class Cost(NamedTuple):
    """Of one step: floating-point operations, and numbers written on the way."""

    operations: float
    numbers: float


def cost(setup: Setup, parameters: Any, arrays: Any, precision: str) -> Cost:
    """What the compiler says of a pass forwards and back on all samples; a bound by hand if it says nothing."""

    def step(p: Any, x: Any, y: Any) -> Any:
        return jax.grad(lambda q: jnp.mean(setup.loss.samples(setup.program(q, x), y)))(p)

    def abstract(array: Any) -> jax.ShapeDtypeStruct:
        floating = np.issubdtype(np.asarray(array).dtype, np.floating)
        return jax.ShapeDtypeStruct(np.shape(array), precision if floating else np.asarray(array).dtype)

    with precision_context(precision):
        lowered = jax.jit(step).lower(*jax.tree.map(abstract, (dict(parameters), arrays.x, arrays.y)))
        found: Any = lowered.cost_analysis() or {}
    count = float(sum(np.size(leaf) for leaf in parameters.values()))
    operations = float(found.get("flops", 6.0 * count * len(arrays.x)))
    read = float(found.get("bytes accessed", 8.0 * (count + arrays.x.size)))
    return Cost(max(operations, 1.0), read / np.dtype(precision).itemsize / 2.0)


def check_outputs(program: Program, parameters: Any, x: np.ndarray, outputs: int) -> None:
    """ParameterError unless the network maps inputs (B, ...) to (B, outputs)."""
    try:
        found = jax.eval_shape(program, parameters, jax.ShapeDtypeStruct(x.shape, x.dtype)).shape
    except (TypeError, ValueError) as error:
        reason = " ".join(str(error).split())[:200]
        raise ParameterError(
            f"Argument `network` must fit the task, but fails on inputs of shape {x.shape[1:]}: {reason}."
        ) from None
    if found != (len(x), outputs):
        raise ParameterError(
            f"Argument `network` must have {outputs} outputs for this task and loss, (B, {outputs}) for a batch, but "
            f"has {found} for {len(x)} samples."
        )
