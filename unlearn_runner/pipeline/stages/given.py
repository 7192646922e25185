"""Models that exist already, in the place of stages that would make them.

A given model is never copied into the store. Its key is what it is (the content of a folder, the
commit of a hub repository), not where it lies, so moving a folder recomputes nothing.
"""

from __future__ import annotations

import hashlib
import os
import re
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from unlearn_runner.errors import ConfigError, DataError
from unlearn_runner.models import folder as folders
from unlearn_runner.pipeline.stages.base import StageContext
from unlearn_runner.pipeline.stages.local import Given, Local
from unlearn_runner.pipeline.stages.merge import Merge
from unlearn_runner.pipeline.stages.package import from_package
from unlearn_runner.store.artifact import Outcome
from unlearn_runner.utils.console import console
from unlearn_runner.utils.files import expanded

if TYPE_CHECKING:
    from unlearn_runner.config.model import Pretrained

HUB_ID = re.compile(r"\w[\w.-]*/\w[\w.-]*", re.ASCII)
COMMIT = re.compile(r"[0-9a-f]{40}")
FILES = ("*.json", "*.safetensors", "*.model", "*.txt", "*.jinja")
"""What is fetched of a hub repository: never pickled weights, never code."""


@dataclass(frozen=True)
class Hub(Given):
    """A repository on the Hugging Face hub, at a commit."""

    repository: str
    commit: str
    setting: str = "model.path"
    """What named it, for messages."""

    @property
    def key(self) -> str:
        """Repository and commit."""
        return hashlib.sha256(f"{self.repository}@{self.commit}".encode()).hexdigest()[:16]

    @property
    def address(self) -> str:
        """The repository, the same everywhere."""
        return self.repository

    def reads(self) -> str:
        """Names repository and commit."""
        return f"hub {self.repository} at {self.commit[:12]}"

    def outside(self) -> Path | None:
        """Returns the folder in the hub's cache, when all files are there."""
        from huggingface_hub import snapshot_download

        try:
            found = snapshot_download(
                self.repository,
                revision=self.commit,
                local_files_only=True,
                allow_patterns=list(FILES),  # or what is left out on purpose counts as missing
            )
        except Exception:  # not in the cache, in one of several ways
            return None
        return None if folders.wanting(Path(found)) else Path(found)

    def run(self, context: StageContext) -> Outcome:
        """Fetches the files into the hub's cache (`HF_HOME`).

        Raises:
            DataError: If they cannot be had.
        """
        console.print(f"fetching {self.repository} at {self.commit[:12]}", markup=False)
        fetch(self.setting, self.repository, self.commit)
        return "completed"


def fetch(key: str, repository: str, revision: str | None) -> Path:
    """Brings a repository's model into the hub's cache; returns its folder there.

    Without a revision (a commit, tag or branch) it is the main branch, which is then found again
    without a network as it is now. Messages name `key`.

    Raises:
        DataError: If it cannot be had, or is not a whole model.
    """
    from huggingface_hub import HfApi, snapshot_download

    try:
        # First of all: where there is no network the download tries for half a minute.
        HfApi().model_info(repository, revision=revision)
        found = snapshot_download(repository, revision=revision, allow_patterns=list(FILES))
    except Exception as error:
        raise _unreachable(key, repository, revision, error) from None
    if lack := folders.wanting(Path(found)):
        raise DataError(
            f"{key}: the hub repository {repository} holds no model that can be loaded: {lack}",
            f"a repository or {key}=FOLDER with safetensors weights and a fast tokenizer",
        )
    return Path(found)


def given(
    label: str, key: str, path: str, revision: str | None, base: Pretrained | None = None
) -> Given | Merge:
    """Returns the stage that stands for an existing model.

    Args:
        label: What the run calls it.
        key: The setting that names it, for messages.
        path: A local folder or a hub id.
        revision: Commit, tag or branch of a hub id.
        base: What an adapter in the folder belongs to; none where its own word for it is taken,
            which must be a hub id.

    Raises:
        DataError: If it is neither, or not a whole model.
        ConfigError: If a folder is given a revision.
    """
    place = expanded(key, path)
    if os.path.lexists(place) or not HUB_ID.fullmatch(path):
        if revision:
            where = key.rpartition(".")[0]
            raise ConfigError(
                f"{where}.revision={revision}: a local folder has no revisions",
                f"{where}.revision=null",
            )
        if folders.is_adapter(place):
            return _merge(label, key, place.absolute(), base)
        folder = folders.checked(place.absolute(), key)
        return Local(label, folder, folders.digest(folder))
    return Hub(label, path, _commit(key, path, revision), key)


def _merge(label: str, key: str, folder: Path, base: Pretrained | None) -> Merge:
    named = folders.adapter_base(folder, key)
    adapter = Local(f"{label} adapter", folder, folders.digest(folder))
    if base is not None and (package := base.packaged) is not None:
        found = from_package("base", package)
    elif base is not None and base.path:
        found = given("base", "model.path", base.path, base.revision)
    elif HUB_ID.fullmatch(named) and not Path(named).exists():
        found = Hub("base", named, _commit(key, named, None), key)
    else:  # a path that a file names is not followed
        raise DataError(
            f"{key}={folder} holds an adapter, and its base ({named[:80]!r}) is no id of the hub",
            "model=hf model.path=FOLDER of the base",
        )
    if isinstance(found, Merge):
        raise DataError(
            f"model.path={found.adapter.reads()} holds an adapter, too, and no model for {key}",
            "model=hf model.path=FOLDER of a whole model",
        )
    return Merge(label, found, adapter)


def _commit(key: str, repository: str, revision: str | None) -> str:
    """Returns the commit of a branch or tag: as the cache has it, else as the hub says."""
    if revision and COMMIT.fullmatch(revision):
        return revision
    from huggingface_hub import HfApi, constants
    from huggingface_hub.file_download import repo_folder_name

    cached = Path(constants.HF_HUB_CACHE) / repo_folder_name(repo_id=repository, repo_type="model")
    with suppress(OSError):
        return (cached / "refs" / (revision or "main")).read_text().strip()
    try:
        return str(HfApi().model_info(repository, revision=revision).sha)
    except Exception as error:
        raise _unreachable(key, repository, revision, error) from None


def _unreachable(key: str, repository: str, revision: str | None, error: Exception) -> DataError:
    reason = " ".join(str(error).split())[:160] or type(error).__name__
    closed = type(error).__name__ == "GatedRepoError"
    return DataError(
        f"{key}: {repository} is neither a folder here nor to be had from the hub: {reason}",
        f"accept its licence at https://huggingface.co/{repository}, then: hf auth login"
        if closed
        else "name an existing folder, or fetch it first where there is a network: "
        f"python scripts/fetch.py {repository}{f'@{revision}' if revision else ''}",
    )
