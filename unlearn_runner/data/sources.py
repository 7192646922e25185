"""Sources of named splits of question/answer rows: one's own files, or TOFU's."""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from unlearn_runner.data.checks import COLUMNS, checked_split
from unlearn_runner.data.records import FORMATS, Placed, read_records
from unlearn_runner.data.rows import Rows
from unlearn_runner.errors import ConfigError, DataError, listed, nearest


@dataclass(frozen=True)
class Source(ABC):
    """Base class of sources. Two reads of one split give equal rows."""

    @abstractmethod
    def read(self, split: str) -> Rows:
        """Returns the rows of `split`.

        Raises:
            DataError: If the split does not exist or a row is malformed.
        """

    @property
    def sees(self) -> bool:
        """Whether questions are about pictures."""
        return False

    def in_folder(self, folder: str) -> Source:
        """Returns the source with its files in a folder.

        Raises:
            ConfigError: If it reads no files.
        """
        raise ConfigError(
            "benchmark.data_dir: this benchmark reads no files, it generates its rows",
            "benchmark=tofu reads the upstream files",
        )


@dataclass(frozen=True)
class Files(Source):
    """Rows from files of a folder: `<split>.json`, `.jsonl`, `.csv` or `.parquet`.

    JSON is an array or one object a line. A row has the columns `question` and `answer`, and
    optionally `paraphrased_answer`, `perturbed_answer` (a list), `paraphrased_question` and
    `entity` (a part of the answer).
    """

    data_dir: str | None = None
    """Folder of the files."""
    columns: dict[str, str] = field(default_factory=dict)
    """Names of the columns in the files where they differ: {question: Question}."""
    sizes: dict[str, int] | None = field(default_factory=dict)
    """Expected number of rows by split; splits not named are not checked, nor any when null."""

    def __post_init__(self) -> None:
        for name in self.columns:
            if name not in COLUMNS:
                close = nearest(name, COLUMNS)
                raise ConfigError(
                    f"benchmark.source.columns.{name} is no column of rows; allowed: "
                    f"{listed(COLUMNS)}, each with the name it has in the files",
                    f"benchmark.source.columns.{close}={self.columns[name]}" if close else "",
                )

    def in_folder(self, folder: str) -> Source:
        """Returns the source with its files in `folder`."""
        return replace(self, data_dir=folder)

    def read(self, split: str) -> Rows:
        """Returns the rows of `split`, checked."""
        path, where = self.find(split)
        rows = Rows(split, checked_split(self._renamed(read_records(path))))
        expected = (self.sizes or {}).get(split)
        if expected is not None and len(rows) != expected:
            raise DataError(
                f"{where} has {len(rows)} rows, but {split} has {expected}",
                "fetch the file again, or set benchmark.source.sizes=null to take it as it is",
            )
        return rows

    def find(self, split: str) -> tuple[Path, str]:
        """Returns the file of `split`, and its name for messages.

        Raises:
            ConfigError: If no folder is set.
            DataError: If it holds no such file, or two.
        """
        if self.data_dir is None:
            raise ConfigError(
                "benchmark.data_dir must be set: the folder of the benchmark's files",
                "benchmark.data_dir=FOLDER",
            )
        folder = Path(os.path.expanduser(self.data_dir))
        if not os.path.isdir(folder):  # unlike Path's, false for names that no folder can have
            raise DataError(
                f"benchmark.data_dir={self.data_dir} is not a folder (seen from {Path.cwd()})",
                "name the folder that holds full.json, forget10.json, ...; benchmark=tofu reads "
                "them from the hub where it is left out",
            )
        paths = [path for end in FORMATS if os.path.isfile(path := folder / f"{split}{end}")]
        if len(paths) > 1:
            raise DataError(
                f"{folder} has {paths[0].name} and {paths[1].name}, and both are the split {split}",
                "move one of the two away",
            )
        if not paths:
            present = sorted({p.stem for p in folder.iterdir() if p.suffix in FORMATS})
            close = nearest(split, present)
            raise DataError(
                f"benchmark.data_dir={self.data_dir} has no {split}.json (.jsonl, .csv, .parquet); "
                f"it has {listed(present) or 'none of any name'}",
                (f"{close} in place of {split}, or " if close else "") + f"put {split}.json there",
            )
        return paths[0], str(paths[0])

    def _renamed(self, records: list[Placed]) -> Iterator[Placed]:
        """Yields the records under the names of our columns."""
        for where, record in records:
            if self.columns and isinstance(record, dict):
                lacking = [n for n in self.columns.values() if n not in record]
                if lacking:
                    raise DataError(
                        f"{where} has no column {lacking[0]!r} (benchmark.source.columns); it has "
                        f"{listed(map(repr, record))}",
                        "a column that is there, or leave it out of benchmark.source.columns",
                    )
                others = {k: v for k, v in record.items() if k not in self.columns}
                record = others | {ours: record[name] for ours, name in self.columns.items()}
            yield where, record


@dataclass(frozen=True)
class Tofu(Files):
    """TOFU (Maini et al. 2024) from a folder of the upstream JSON files, or from the hub."""

    hub: str = "locuslab/TOFU"
    """Data set to read where `data_dir` is null (from its local cache when offline)."""
    revision: str = "324592d84ae4f482ac7249b9285c2ecdb53e3a68"

    def find(self, split: str) -> tuple[Path, str]:
        """Returns the file of `split`, and its name for messages."""
        if self.data_dir is not None:
            return super().find(split)
        path = self.fetched(split)
        return path, f"{self.hub}/{path.name}"

    def fetched(self, split: str) -> Path:
        """Returns the split's file in the hub's cache (`HF_HOME`), fetched when it is not there.

        The file itself is checked line by line like a local one; a cached one of a pinned revision
        is found without a network.

        Raises:
            DataError: If it cannot be had.
        """
        # Imported here: a run on local files must not pay for it, nor need it.
        from huggingface_hub import HfApi, hf_hub_download, try_to_load_from_cache

        which: dict[str, Any] = {"repo_type": "dataset", "revision": self.revision}
        try:
            cached = try_to_load_from_cache(self.hub, f"{split}.json", **which)
            if isinstance(cached, str):
                return Path(cached)
            # Asked first: where there is no network the download tries for half a minute.
            HfApi().dataset_info(self.hub, revision=self.revision)
            found = hf_hub_download(self.hub, f"{split}.json", **which)
        except Exception as error:  # of many kinds, by what is wrong with hub, network or name
            reason = " ".join(str(error).split())[:120] or type(error).__name__
            raise DataError(
                f"the hub data set {self.hub} ({split}) could not be read: {reason}",
                "benchmark.data_dir=FOLDER with the upstream JSON files needs no network, nor does "
                "what was fetched before by: python scripts/fetch.py --tofu",
            ) from None
        return Path(found)
