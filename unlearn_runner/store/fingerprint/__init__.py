"""Hash the code that computes an artifact, so that editing a definition renames what it computes.

Modules are only parsed, never imported: from each root the names it uses are followed, definition
by definition, through this package and the plugin that the root belongs to.

Not seen: names built at run time (`getattr(module, text)` takes the whole module, a dotted path
in a string takes nothing) and modules imported only for what importing them does.
"""

from unlearn_runner.store.fingerprint.names import EFFECTS
from unlearn_runner.store.fingerprint.walk import NEUTRAL, code_hash, inert, reached

__all__ = ["EFFECTS", "NEUTRAL", "code_hash", "inert", "reached"]
