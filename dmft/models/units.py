"""Numbers of samples and units of time that every model shares (THEORY section 1).

One step of gradient descent with learning rate eta on loss_factor * (1/2P) sum Delta^2 lasts the time
dt = loss_factor * eta * alpha^2 / (N D), so that

    t = steps * loss_factor * eta * alpha^2 / (N D).
"""

from __future__ import annotations

from typing import Any

from dmft.checks import ParameterError, check_integer, check_real


class Units:
    """What follows from a model's alpha, kappa, dim and width."""

    alpha: Any
    kappa: Any
    dim: Any
    width: Any

    @property
    def samples(self) -> int:
        """P = round(kappa D). Needs `dim`."""
        return round(self.kappa * self._finite("dim"))

    def step_from_learning_rate(self, learning_rate: float, *, loss_factor: float = 1.0) -> float:
        """Time per step of gradient descent on `loss_factor` x (1/2P) sum Delta^2.

        `loss_factor` is 1 for the half mean square, 2 for the plain mean square, 2/alpha^2 for the mean square
        divided by alpha^2. Needs `dim` and `width`.
        """
        learning_rate = check_real("learning_rate", learning_rate, above=0.0)
        loss_factor = check_real("loss_factor", loss_factor, above=0.0)
        return loss_factor * learning_rate * self.alpha**2 / (self._finite("width") * self._finite("dim"))

    def learning_rate_from_step(self, step: float, *, loss_factor: float = 1.0) -> float:
        """Learning rate whose steps last `step`: the inverse of `step_from_learning_rate`."""
        step = check_real("step", step, above=0.0)
        return step / self.step_from_learning_rate(1.0, loss_factor=loss_factor)

    def time_from_steps(self, steps: int, learning_rate: float, *, loss_factor: float = 1.0) -> float:
        """Time after `steps` steps at `learning_rate`."""
        steps = check_integer("steps", steps, at_least=0)
        return steps * self.step_from_learning_rate(learning_rate, loss_factor=loss_factor)

    def steps_from_time(self, time: float, learning_rate: float, *, loss_factor: float = 1.0) -> int:
        """Nearest number of steps at `learning_rate` that lasts `time`."""
        time = check_real("time", time, at_least=0.0)
        return round(time / self.step_from_learning_rate(learning_rate, loss_factor=loss_factor))

    def _finite(self, name: str) -> int:
        value = getattr(self, name)
        if value is None:
            raise ParameterError(f"Argument `{name}` of the model must be set (a finite integer) here, but is None.")
        return value
