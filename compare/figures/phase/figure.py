"""The picture of a phase diagram: maps over two swept fields of the model, curves over one. No physics here."""

from __future__ import annotations

from typing import TYPE_CHECKING

from matplotlib.figure import Figure

from compare.figures.phase.curves import draw_curves
from compare.figures.phase.maps import draw_maps
from compare.figures.style import Picture, house_style, model_in_words, number, seeds_in_words
from compare.sweep.measures import PREFIXES
from dmft.checks import ParameterError

if TYPE_CHECKING:
    import xarray


def phase_figure(phase: xarray.Dataset) -> Figure:
    """The picture of a phase diagram: of the dataset that the sweep over one or two fields of the model returns.

    Two fields: maps of the delay and of the final test loss, with the borders between regimes; theory as cells,
    simulation as marks over them in the same colours (as cells where there is no theory). One field: the times, the
    losses and the regimes against it. Of a sweep with spreads also the probability that one run groks.

    Args:
        phase: variables over the fields named in its attributes `x` and `y` (empty: one field).

    Raises:
        ParameterError: the dataset holds neither theory nor simulation.
    """
    kinds = [kind for kind, prefix in PREFIXES.items() if f"{prefix}state" in phase]
    if not kinds:
        raise ParameterError("Argument `phase` must hold `state` or `simulation_state`, but holds neither.")
    with house_style():
        more = any(f"{prefix}grok_probability" in phase for prefix in PREFIXES.values())
        size = (10.8 if more else 7.6, 4.4) if phase.attrs["y"] else (7.6, 6.4 if more else 5.0)
        figure = Picture(figsize=size, layout="constrained", dpi=200)
        figure.get_layout_engine().set(h_pad=0.03)  # type: ignore[union-attr]
        figure.suptitle(_title(phase, kinds), fontsize=9.0)
        if phase.attrs["y"]:
            draw_maps(figure, phase, kinds)
        else:
            draw_curves(figure, phase, kinds)
    return figure


def _title(phase: xarray.Dataset, kinds: list[str]) -> str:
    """The model's fixed fields and the run's settings, then what is theory and what simulation."""
    attributes = phase.attrs
    model = {name.removeprefix("model_"): value for name, value in attributes.items() if name.startswith("model_")}
    step = attributes["step"]
    settings = [
        *model_in_words(model, without=(attributes["x"], attributes["y"])),
        rf"$t_\mathrm{{max}} = {number(attributes['t_max'])}$",
        f"threshold {number(attributes['threshold'])}{' of wrong signs' if 'of' in attributes else ''}",
        "gradient flow" if step == "flow" else f"step {number(step)}",
    ]
    surface, over = ("map", "marks") if attributes["y"] else ("lines", "points")
    notes = []
    for place, kind in zip((surface, over), kinds, strict=False):
        runs = f", {seeds_in_words(attributes['seeds'])}" if kind == "simulation" else ""
        notes.append(f"{place}: {kind}{runs}")
    notes.append(r"one unit of time is $N D / (\alpha^2 \eta)$ steps")
    return ",  ".join(settings) + "\n" + ";  ".join(notes)
