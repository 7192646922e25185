"""`${lookup:KEY,{a: 1, b: 2}}` in a YAML: a setting that follows from another one.

Published settings differ by forget split; `benchmark.forget=forget05` then chooses them all.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from omegaconf import OmegaConf

from unlearn_runner.errors import listed


def lookup(key: object, table: Mapping[str, Any]) -> Any:
    """Returns the entry for `key`.

    Raises:
        ValueError: If nothing was published for it; OmegaConf adds which setting asks.
    """
    if key not in table:
        names = listed(map(str, table))
        raise ValueError(f"nothing is published for {key}, only for {names}: set it yourself")
    return table[str(key)]


def register() -> None:
    """Teaches OmegaConf the word; to be called before a configuration is resolved."""
    OmegaConf.register_new_resolver("lookup", lookup, replace=True)
