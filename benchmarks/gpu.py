"""What a GPU does with it: one command, ten minutes, no network, on any CUDA machine.

    python benchmarks/gpu.py                 a model of 1.1 B weights, made at random
    python benchmarks/gpu.py --tiny          the same path with a small one, on any processor

Tokens per second of the training step, beside a bare loop over the same batches; what GRU costs
beside GradDiff; peak memory beside what `estimate` says; evaluation; and how far weights go in
float32 masters and in bf16. Each engine is measured by processes of its own (torchrun): `single` on
the first GPU, `fsdp2` on all of them. An arm that does not fit says so. Writes a baseline file for
`compare.py`, and a page.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

import compare
import torch
from gpu_arms import ARMS, ENGINES, FULL, TINY, Bench, Size
from workload import TEMPLATE

from unlearn_runner.data.people import People
from unlearn_runner.errors import UserError
from unlearn_runner.models.load import (
    new_model,
    save,
    train_tokenizer,
)
from unlearn_runner.utils.console import console, results_console


def worker(engine: str, size: Size, folder: Path) -> None:
    """Measures an engine's arms in this process, one of its ranks; rank 0 writes the figures."""
    bench, found = Bench.open(engine, size, folder), {}
    works: dict[str, Callable[[], Iterator[tuple[str, list[float]]]]]
    works = {arm.name: partial(bench.measured, arm) for arm in ARMS[engine]}
    if engine == "single":
        works["evaluation"] = bench.evaluated
    for name, work in works.items():
        try:
            for figure, values in work():
                found[f"{engine}, {name}: {figure}"] = values
        except (torch.OutOfMemoryError, UserError) as error:  # too large, or a kernel is missing
            why = str(error).splitlines()[0].rpartition(": ")[2]
            found[f"{engine}, {name}: not measured ({why[:100]})"] = []
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        console.print(f"{engine}: {name} is measured", markup=False)
    if bench.session.ranks.main:
        (folder / f"{engine}.json").write_text(json.dumps(found))


def prepare(size: Size, folder: Path) -> None:
    """Makes the model at random, and a tokenizer, in a folder."""
    rows = [r for name in ("forget10", "retain90") for r in People(200, 10).read(name)]
    tokenizer = train_tokenizer(("".join(TEMPLATE.texts(r.question, r.answer)) for r in rows), 512)
    model = new_model(size.shape, tokenizer, seed=0)
    model.resize_token_embeddings(size.vocab)
    save(model, tokenizer, folder)


def page(figures: dict[str, list[float]], command: str, hardware: str) -> str:
    """Returns a Markdown page of the figures: an arm a row."""
    rates = {name: compare.Figure.of(values).value for name, values in figures.items() if values}
    columns = list(dict.fromkeys(name.partition(": ")[2] for name in rates))
    lines = ["# What a GPU does with it", "", f"`{command}` on {hardware}.", ""]
    lines += ["| | " + " | ".join(columns) + " |", "|---|" + "---:|" * len(columns)]
    for arm in dict.fromkeys(name.partition(": ")[0] for name in rates):
        cells = [rates.get(f"{arm}: {column}") for column in columns]
        shown = ["" if cell is None else f"{cell:.4g}" for cell in cells]
        lines.append(f"| {arm} | " + " | ".join(shown) + " |")
    lines += [""] + [f"- {name}" for name, values in figures.items() if not values]
    for engine in ENGINES:
        both = [rates.get(f"{engine}, GradDiff{w}: tokens a second") for w in ("", " with GRU")]
        if both[0] and both[1]:
            lines.append(f"- {engine}: a GRU step takes {both[0] / both[1]:.3f} of a GradDiff step")
    return "\n".join(lines) + "\n"


def main() -> None:
    """Measures every engine, writes both files and prints the page."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--tiny", action="store_true", help="a small model, on any processor")
    parser.add_argument("--output", type=Path, default=compare.BASELINES, help="folder (baselines)")
    parser.add_argument("--engines", default=",".join(ENGINES), help="names (both)")
    parser.add_argument("--worker", nargs=2, metavar=("ENGINE", "FOLDER"), help=argparse.SUPPRESS)
    args = parser.parse_args()
    size = TINY if args.tiny else FULL
    if args.worker:
        worker(args.worker[0], size, Path(args.worker[1]))
        return
    if not (args.tiny or torch.cuda.is_available()):
        sys.exit("error: no CUDA device is visible; --tiny takes the same path on a processor")
    figures: dict[str, list[float]] = {}
    with TemporaryDirectory() as made:
        prepare(size, Path(made))
        for engine in args.engines.split(","):
            ranks = 1 if engine == "single" else max(torch.cuda.device_count(), 1 + args.tiny)
            ranked = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
            ranked += [f"--nproc-per-node={ranks}", __file__, *["--tiny"] * args.tiny]
            env = {**os.environ, "OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", "1")}
            subprocess.run([*ranked, "--worker", engine, made], check=True, env=env)
            figures |= json.loads((Path(made) / f"{engine}.json").read_text())
    name = "gpu-tiny" if args.tiny else f"gpu-{torch.cuda.get_device_name()}".replace(" ", "-")
    measured = {figure: values for figure, values in figures.items() if values}
    command = "python benchmarks/gpu.py" + " --tiny" * args.tiny
    compare.write(args.output / f"{name}.json", command, measured)
    text = page(figures, command, compare.hardware())
    (args.output / f"{name}.md").write_text(text)
    results_console().print(text, markup=False)


if __name__ == "__main__":
    main()
