"""Login to W&B: whether it would work, found without a question and without a long wait."""

from __future__ import annotations

import os
from netrc import NetrcParseError, netrc
from ssl import SSLError
from urllib.error import HTTPError
from urllib.parse import urlsplit
from urllib.request import urlopen

REACHED_WITHIN = 5.0  # seconds


def logged_in() -> bool:
    """Returns whether W&B has credentials, without asking for any."""
    import wandb

    if os.environ.get("WANDB_API_KEY") or os.environ.get("WANDB_IDENTITY_TOKEN_FILE"):
        return True
    settings = wandb.setup().settings
    if settings.api_key:
        return True
    host = urlsplit(settings.base_url).hostname or ""
    named = os.environ.get("NETRC")
    for path in [named] if named else ["~/.netrc", "~/_netrc"]:
        try:
            if netrc(os.path.expanduser(path)).authenticators(host):
                return True
        except (OSError, NetrcParseError):
            continue
    return False


def obstacle() -> str | None:
    """Returns why W&B would ask for a key, or wait long for an answer."""
    import wandb

    if not logged_in():
        return "nobody is logged in (wandb login, or WANDB_API_KEY)"
    url = wandb.setup().settings.base_url
    try:
        urlopen(url, timeout=REACHED_WITHIN).close()
    except HTTPError:
        return None  # an answer
    except OSError as error:
        reason = getattr(error, "reason", error)
        if not isinstance(reason, SSLError):  # W&B has certificates and settings of its own
            return f"{url} cannot be reached: {reason}"
    return None
