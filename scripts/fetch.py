"""Fetches models and the TOFU data set ahead, on a machine that has a network.

    python scripts/fetch.py phi llama32_1b          models by the runner's names, as pinned there
    python scripts/fetch.py owner/name              any model of the hub, its main branch of now
    python scripts/fetch.py owner/name@COMMIT       ... or at a commit, tag or branch
    python scripts/fetch.py --tofu                  the TOFU data set

What is fetched lies in the hub's cache, HF_HOME (~/.cache/huggingface unless that is set), where
runs find it without a network; HF_HUB_OFFLINE=1 makes sure that they do not ask for one. Of a
model only configuration, tokenizer and safetensors weights are fetched. Gated models need their
licence accepted on the hub, and `hf auth login`.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from typing import Any, NoReturn

from omegaconf import OmegaConf

from unlearn_runner.config.groups import CONF, groups
from unlearn_runner.data.sources import Tofu
from unlearn_runner.errors import ConfigError, DataError, UserError, listed, nearest
from unlearn_runner.pipeline.stages.given import HUB_ID, fetch

USAGE_ERROR = 2
UNDER = "python scripts/fetch.py"


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise ConfigError(message, f"{UNDER} --help")


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs a command line; returns the exit code."""
    try:
        args = _parser().parse_args(arguments)
        if not args.models and not args.tofu:
            raise ConfigError("nothing to fetch is named", f"{UNDER} phi --tofu, say")
        wanted = [found(name) for name in args.models]  # all names before the first download
        if os.environ.get("HF_HUB_OFFLINE", "").upper() in ("1", "ON", "YES", "TRUE"):
            raise ConfigError(
                f"HF_HUB_OFFLINE={os.environ['HF_HUB_OFFLINE']} forbids what this is for",
                "unset HF_HUB_OFFLINE, on a machine that has a network",
            )
        try:
            for name, repository, revision in wanted:
                print(f"{repository} at {revision or 'main'}", flush=True)
                print(f"  {fetch(name, repository, revision)}")
            if args.tofu:
                fetch_tofu()
        except DataError as error:  # whose fix may be to run this
            network = "run this where the hub can be reached; HF_HOME=FOLDER says where to keep it"
            raise DataError(error.problem, network if UNDER in error.fix else error.fix) from None
        return 0
    except UserError as error:
        print(error, file=sys.stderr)
        return USAGE_ERROR


def _parser() -> argparse.ArgumentParser:
    form = argparse.RawDescriptionHelpFormatter
    parser = _Parser(prog="fetch.py", description=__doc__, formatter_class=form)
    parser.add_argument("models", nargs="*", metavar="MODEL", help="a name, or a hub id")
    parser.add_argument("--tofu", action="store_true", help="the TOFU data set, too")
    return parser


def found(name: str) -> tuple[str, str, str | None]:
    """Returns a model's name as it was typed, its hub id and its revision.

    Raises:
        ConfigError: If it is neither a model of the runner that the hub has, nor a hub id.
    """
    repository, _, revision = name.partition("@")
    if HUB_ID.fullmatch(repository):
        return name, repository, revision or None
    known = {option: node for option in groups()["model"] if (node := _node(option)).get("path")}
    if name not in known:
        close = nearest(name, known)
        made = "is made on the spot, or names no model" if name in groups()["model"] else "is none"
        raise ConfigError(
            f"{name} {made}; models of the hub: {listed(known, 24)}, or owner/name",
            f"{UNDER} {close}" if close else "",
        )
    return name, known[name]["path"], known[name]["revision"]


def _node(option: str) -> dict[str, Any]:
    """Returns the model's part of `conf/model/<option>.yaml`."""
    content: Any = OmegaConf.to_container(OmegaConf.load(CONF / "model" / f"{option}.yaml"))
    return content.get("model", content)


def fetch_tofu() -> None:
    """Fetches every split that `benchmark=tofu` knows, and checks it."""
    node: Any = OmegaConf.load(CONF / "benchmark" / "tofu.yaml").source
    source = Tofu(hub=node.hub, revision=node.revision, sizes=dict(node.sizes))
    print(f"{source.hub} at {source.revision}", flush=True)
    for split in source.sizes or {}:
        print(f"  {split}: {len(source.read(split))} rows", flush=True)


if __name__ == "__main__":
    sys.exit(main())
