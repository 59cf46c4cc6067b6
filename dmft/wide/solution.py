"""What one replica of the wide theory predicts."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from dmft.wide.sectors import BySector
from dmft.wide.state import Bases


class SampleCurves(NamedTuple):
    """The samples of a replica and their processes."""

    u: np.ndarray  # (S,)
    weight: np.ndarray  # (S,)
    residual: np.ndarray  # Delta, (T, S)
    p: np.ndarray  # (T, S)
    q: np.ndarray  # (T, S)


class Replica(NamedTuple):
    """What one replica predicts on its grid."""

    curves: dict[str, np.ndarray]  # OBSERVABLES, (T,) each, correlations in propagator form
    differential: dict[str, np.ndarray]  # the same with correlations in differential form
    controls: np.ndarray  # (T, 3): zero-mean violations of exact identities, see dmft.wide.consistency
    kernels: dict[str, np.ndarray]  # KERNELS, (T, T) each
    second: dict[str, np.ndarray]  # the correlations in differential form, (T, T) each
    responses: BySector  # R_c, R_d, R_r as the multistep rule has them, (T, T) each
    samples: SampleCurves
    bases: Bases  # of the forces in sample space, (K, S) each
    rounds: np.ndarray  # (T,) inner iterations
    mismatch: np.ndarray  # (T,) what they left, relative


class Stopped(NamedTuple):
    """A replica that could not go on: the first row that failed, and why."""

    row: int
    reason: str
