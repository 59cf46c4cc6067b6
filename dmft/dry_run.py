"""What a solve will take, before it runs: memory from the sizes of its arrays, time from a measured rule.

A replica of S samples on T time points takes about REPLICA S T^2 seconds of one core, a data set that is drawn for the
spread DRAW S T^2 (of steps two thirds of that). What is not compiled yet, in this process or in the cache folder, takes
COMPILE seconds a program. How many replicas a solve takes, and whether its grid must be refined, it decides as it goes:
the engine says what that comes to as a rule (`Engine.effort`).

The constants were measured on two cores of an x86-64 machine at about 50 GFlop/s per core in double precision, with
nothing else running. How good they are: docs/performance.md.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from dmft.checks import spelt
from dmft.progress import Estimate, on_cpu
from dmft.twotime.cost import Cost, expected_cost
from dmft.twotime.request import Request

if TYPE_CHECKING:
    from dmft.models.committee import Committee
    from dmft.models.model import Model

#: Seconds of one core for a sample and a squared time point, of a replica and of a data set that is drawn; to compile a
#: program, and of what is done once (imports).
REPLICA, DRAW, COMPILE, START = 3e-6, 5e-7, 7.0, 1.6
#: Bytes that a process takes beside its arrays, and what the compiler adds.
PROCESS, COMPILER = 0.45 * 2**30, 0.8 * 2**30


def estimate(model: Model | Committee, t_max: float, **arguments: Any) -> Estimate:
    """Memory and time of `dmft.solve(model, t_max, **arguments)`, without running it.

    Raises:
        ParameterError: an argument is out of range.
        MemoryLimitError: one replica does not fit into memory, as in the run itself.

    Examples:
        >>> from dmft import Model
        >>> estimate(Model(alpha=1.0, epsilon=0.5, kappa=3.0), 5.0, step=0.2).side
        'theory'
    """
    cost = theory_cost(model, t_max=t_max, **arguments)
    return Estimate(
        side="theory",
        work=cost.describe(),
        memory_bytes=memory(cost),
        seconds=on_cpu(START + compilation(cost) + work(cost)),
    )


def theory_cost(model: Any, **arguments: Any) -> Cost:
    """What `dmft.solve` of these arguments begins with."""
    from dmft.solver import engine_for

    return expected_cost(engine_for(model), spelt(Request, "estimate")(**arguments))


def memory(cost: Cost) -> float:
    """Bytes of the process."""
    return PROCESS + COMPILER * (cost.missing > 0) + cost.side_by_side * cost.bytes_each


def compilation(cost: Cost) -> float:
    """Seconds to compile what is neither in memory nor in the cache folder."""
    return COMPILE * cost.missing / cost.side_by_side


def work(cost: Cost) -> float:
    """Seconds of all replicas and data sets."""
    rows = REPLICA * cost.effort * cost.sample_rows + DRAW * cost.spread_rows
    return rows / cost.side_by_side
