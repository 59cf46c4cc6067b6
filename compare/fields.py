"""The fields of the models, as sweeps, pictures and the report speak of them."""

from __future__ import annotations

from typing import NamedTuple


class Field(NamedTuple):
    """A numeric field of `dmft.Model` or `dmft.Committee`.

    Attributes:
        kind: of its values.
        tex: its symbol in TeX.
        sign: its symbol in plain text.
        words: what it is.
        definition: what follows the symbol where it is introduced, as " = P/D".
        usual: the value that titles leave out.
    """

    kind: type
    tex: str
    sign: str
    words: str
    definition: str = ""
    usual: float | None = None

    @property
    def title(self) -> str:
        """Of an axis, in matplotlib's TeX."""
        return f"{self.words} ${self.tex}{self.definition}$"


#: By name, in the order of titles.
FIELDS = {
    "alpha": Field(float, r"\alpha", "α", "output scale"),
    "epsilon": Field(float, r"\epsilon", "ε", "weight of the quadratic feature"),
    "kappa": Field(float, r"\kappa", "κ", "sample ratio", " = P/D"),
    "dim": Field(int, "D", "D", "input dimension"),
    "width": Field(int, "N", "N", "number of neurons"),
    "teacher_dim": Field(int, "K", "K", "directions of the teacher"),
    "initial_overlap": Field(float, "m_0^2", "m₀²", "planted overlap", usual=0.0),
    "label_noise": Field(float, r"\sigma", "σ", "standard deviation of the label noise", usual=0.0),
    "label_flips": Field(float, "p", "p", "share of flipped labels", usual=0.0),
    "weight_decay": Field(float, r"\lambda", "λ", "rate of weight decay", usual=0.0),
    "batch_fraction": Field(float, "b", "b", "share of samples in a batch", usual=1.0),
}
