"""Nested mappings, flattened."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any


def leaves(content: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yields the values of nested mappings with their dotted keys; an empty mapping is a value."""
    if isinstance(content, Mapping) and content:
        for key, value in content.items():
            yield from leaves(value, f"{prefix}.{key}" if prefix else str(key))
    else:
        yield prefix, content
