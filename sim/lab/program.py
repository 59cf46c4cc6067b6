"""A module taken apart: its parameters by name, and the program that is compiled."""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Mapping
from typing import Any

import equinox as eqx
import jax

from dmft.models.fingerprint import ByContent
from sim.lab.modules import Batched


@dataclasses.dataclass(frozen=True)
class Slot:
    """The place of a parameter in a module."""

    name: str


@dataclasses.dataclass(frozen=True, eq=False)
class Program(ByContent):
    """A module without its parameters: what is compiled, equal to another if it does the same."""

    template: Any

    def module(self, parameters: Mapping[str, Any]) -> Any:
        """The module with these parameters."""
        return jax.tree.map(
            lambda leaf: parameters[leaf.name] if isinstance(leaf, Slot) else leaf, self.template, is_leaf=_is_slot
        )

    def __call__(
        self, parameters: Mapping[str, Any], x: Any, *, key: jax.Array | None = None, reference: int | None = None
    ) -> jax.Array:
        """Outputs for a batch, (B, K)."""
        module = self.module(parameters)
        if isinstance(module, Batched):
            return module(x, key=key, reference=reference)  # type: ignore[operator]
        if key is None:
            return jax.vmap(eqx.nn.inference_mode(module))(x)
        if "key" in inspect.signature(module.__call__).parameters:
            return jax.vmap(lambda one, own: module(one, key=own))(x, jax.random.split(key, len(x)))
        return jax.vmap(module)(x)

    @property
    def random(self) -> bool:
        """Whether training needs random numbers."""
        if isinstance(self.template, Batched):
            return self.template.random
        leaves = jax.tree.leaves(self.template, is_leaf=lambda node: isinstance(node, eqx.nn.Dropout))
        return any(isinstance(leaf, eqx.nn.Dropout) for leaf in leaves)

    @property
    def normalized(self) -> bool:
        """Whether a sample's output depends on the others of its batch."""
        return isinstance(self.template, Batched) and self.template.normalized


def _is_slot(node: Any) -> bool:
    return isinstance(node, Slot)


def parts(module: Any) -> tuple[dict[str, Any], Program]:
    """The parameters of a module by name, and the module without them."""
    found: dict[str, Any] = {}

    def take(path: Any, leaf: Any) -> Any:
        if not eqx.is_inexact_array(leaf):
            return leaf
        name = jax.tree_util.keystr(path, simple=True, separator="_")
        found[name] = leaf
        return Slot(name)

    return found, Program(jax.tree_util.tree_map_with_path(take, module))
