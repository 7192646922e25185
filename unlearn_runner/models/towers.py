"""Names of what a model sees or hears with, by which its text part is told from the rest."""

from __future__ import annotations

import re

TOWER = re.compile(
    r"(?:^|[._])(?:vision|visual|audio|speech|image|img|mm|multi_?modal|modality|connector)(?:[._]|$)"
)
"""In names of what a model of several modalities sees or hears with, and of what leads from there
to its text part."""
