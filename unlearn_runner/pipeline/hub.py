"""Upload of an unlearned model to the Hugging Face hub.

The token comes from the environment (`HF_TOKEN`) alone, and is written nowhere. Whatever is in the
way costs no run: it is said before anything is computed, and once more at the end.
"""

from __future__ import annotations

import os
from pathlib import Path

FILES = ("*.json", "*.safetensors", "*.model", "*.txt", "*.jinja", "README.md")
LEFT = ("manifest.json",)
TRUE = ("1", "ON", "YES", "TRUE")


def obstacle() -> str:
    """Returns why nothing could be uploaded now, in words; empty where nothing is in the way."""
    if os.environ.get("HF_HUB_OFFLINE", "").upper() in TRUE:
        return "HF_HUB_OFFLINE is set"
    if not os.environ.get("HF_TOKEN"):
        return "HF_TOKEN is not set"
    from huggingface_hub import HfApi

    try:
        HfApi(token=os.environ["HF_TOKEN"]).whoami()
    except Exception as error:  # of many kinds, by what is wrong with hub, network or token
        return _reason(error)
    return ""


def push(folder: Path, repository: str, message: str) -> str:
    """Uploads a model's folder; returns why it could not be, or nothing.

    A repository that does not exist is made, and is private.
    """
    from huggingface_hub import HfApi

    api = HfApi(token=os.environ.get("HF_TOKEN"))
    try:
        api.create_repo(repository, private=True, exist_ok=True)
        api.upload_folder(
            repo_id=repository,
            folder_path=folder,
            commit_message=message,
            allow_patterns=list(FILES),
            ignore_patterns=list(LEFT),
        )
    except Exception as error:
        return _reason(error)
    return ""


def _reason(error: Exception) -> str:
    return " ".join(str(error).split())[:160] or type(error).__name__
