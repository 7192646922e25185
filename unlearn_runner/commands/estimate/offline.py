"""What an estimate does without: models of the hub, of which only the sizes count."""

from __future__ import annotations

import os
from typing import Any

from unlearn_runner.commands.estimate.sizes import Sizes
from unlearn_runner.pipeline.stages.given import HUB_ID


def without_hub(config: dict[str, Any]) -> None:
    """Takes fine-tunes of the hub out of a configuration whose base has known sizes.

    What is fine-tuned from a base has its sizes, and is not asked for.
    """
    model = config.get("model")
    path = model.get("path") if isinstance(model, dict) else None
    if not isinstance(path, str) or Sizes.of_name(path) is None:
        return
    for key in ("target", "retain_model"):
        place = config.get(key)
        if not isinstance(place, dict):
            continue
        named = place.get("path")
        if isinstance(named, str) and HUB_ID.fullmatch(named) and not os.path.lexists(named):
            place |= {"path": None, "revision": None}
