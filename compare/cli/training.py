"""What `dmft train` does: a list of the presets, or one of them run, judged and drawn."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from compare.cli.answer import Answer
from compare.files import write_dataset, write_json
from dmft.checks import ParameterError

if TYPE_CHECKING:
    from collections.abc import Callable

    from compare.lab.preset import Claim, LabPreset
    from compare.parts import Parts
    from dmft.progress import Estimate

#: Seconds to compile a run and for a step of the smallest network; operations a second beyond.
COMPILING, STEP, SPEED = 5.0, 1e-4, 5e10


def list_presets(answer: Answer) -> None:
    """Name, title and source of every preset."""
    from compare.lab.catalogue import presets

    known = presets()
    width = max(map(len, known))
    answer.say("\n".join(f"{name:{width}}  {one.title} ({one.source})" for name, one in known.items()))
    listed = [
        {"name": one.name, "title": one.title, "source": one.source, "reduced": one.reduced} for one in known.values()
    ]
    answer.finish([], presets=listed)


def chosen_preset(name: str | None) -> LabPreset:
    """The preset of this name; ParameterError, with a list of all, without one."""
    from compare.lab.catalogue import lab_preset, presets

    if name is None:
        raise ParameterError(f"Argument `preset` must be one of {', '.join(presets())}, but was not given.")
    return lab_preset(name)


def plan(preset: LabPreset, *, full: bool, seeds: int) -> Estimate:
    """What the runs of a preset would take: all are counted as steps of the first one's size."""
    from dmft.progress import Estimate, on_cpu
    from sim.dry_run import PROCESS
    from sim.lab.losses import fitting_loss
    from sim.lab.system import lab_system
    from sim.networks import as_network

    runs = preset.runs(full)
    first = next(iter(runs.values()))
    loss = fitting_loss(first.settings.get("loss", "square"), first.task)
    settings = {"alpha": 1.0, "centred": False, "watched": (), "precision": "float32", "seed": 0}
    system = lab_system(as_network(first.network), first.task, loss, **settings)
    share = first.settings.get("batch_size", system.samples) / system.samples
    steps = seeds * sum(run.steps * len(run.settings.get("factors", (1.0,))) for run in runs.values())
    seconds = COMPILING * len(runs) + steps * (STEP + share * system.operations / SPEED)
    memory = PROCESS + 4.0 * seeds * system.numbers + system.drawing_bytes
    work = f"{len(runs)} runs of {seeds} seeds, {steps} steps in all"
    return Estimate(side="simulation", work=work, memory_bytes=memory, seconds=on_cpu(seconds))


def run_preset(
    answer: Answer, preset: LabPreset, parts: Parts, folder: Path, *, full: bool, seeds: int, seed: int
) -> None:
    """Write DIR/NAME-RUN.nc for every run, DIR/claims.json and DIR/NAME.png; print the claims."""
    from compare.cli.outputs import give
    from compare.lab.pictures import preset_figure
    from compare.lab.preset import Asked

    size = "the paper's sizes" if full or not preset.reduced else f"reduced: {preset.reduced}"
    answer.say(f"{preset.name}: {preset.title} ({preset.source}); {size}")
    results = preset.run(Asked(seeds, seed, True), full=full, say=answer.say, keep=parts.get)
    claims = preset.claims(results)
    answer.say("\n" + claims_table(claims) + "\n")
    record = [one._asdict() for one in claims]
    data: dict[str, Callable[[Path], None]] = {
        f"{preset.name}-{label}.nc": partial(write_dataset, dataset=dataset) for label, dataset in results.items()
    }
    data["claims.json"] = partial(write_json, content=record)
    pictures = {preset.name: lambda: preset_figure(preset, results)}
    give(answer, folder, data, pictures, parts=parts, preset=preset.name, size=size, result=record)


def claims_table(claims: list[Claim]) -> str:
    """One line a claim: whether it agrees, in how many seeds, what was expected and measured."""
    lines = []
    for one in claims:
        each = ", ".join("none" if value is None else f"{value:.3g}" for value in one.measured["each"])
        count = f"{one.measured['agreeing']} of {one.measured['of']}"
        lines.append(f"{'agrees' if one.agrees else 'DIFFERS':7} {count:>8}  {one.claim}: {one.expected}; found {each}")
    return "\n".join(lines)
