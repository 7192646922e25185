#!/usr/bin/env bash
# Every benchmark but TOFU from one end to the other: a target, NPO with GRU, evaluation, an attack by
# relearning, a report of all. Figures and sizes: docs/texts.md.
#   scripts/end_to_end.sh FOLDER MODEL [OVERRIDE ...]
# FOLDER has muse/ (news/ in the publisher's layout, or excerpts of it), mmlu/mmlu_all_val.json and
# rwku/ (a folder for each person); MODEL is a pretrained model's folder, which is the target of the
# two benchmarks that ask what a model knows from elsewhere.
set -euo pipefail
data=$(realpath "${1:?folder with muse/, mmlu/ and rwku/}")
model=$(realpath "${2:?folder of a pretrained model}")
shift 2
cd "$(dirname "$0")/.."
common=(method=npo rectifier=gru attack=relearn)
run() { "${UNLEARN:-.venv/bin/unlearn}" "${common[@]}" "$@"; }

run benchmark=muse_pocket train.lr=1e-4 name=muse-pocket "$@"

# Twenty articles on either side, the first 96 tokens of each hundred words, and a model made from scratch.
split=benchmark.source.split
run benchmark=muse benchmark.data_dir="$data/muse" name=muse-news benchmark.limit=20 \
    "$split.retain.file=news/privleak/retain" "$split.forget.chunk=100" "$split.retain.chunk=100" \
    "$split.forget.limit=96" "$split.retain.limit=96" \
    "$split.privleak_forget.limit=256" "$split.privleak_retain.limit=256" "$split.privleak_holdout.limit=256" \
    model.vocab_size=2048 model.shape.context=2048 target.train.max_length=2048 train.max_length=2048 target.train.epochs=10 train.lr=1e-4 "$@"

# Questions of MMLU in the places of WMDP's (nothing hazardous), corpora made of their right answers.
shaped=$(mktemp -d)
trap 'rm -rf "$shaped"' EXIT
python3 - "$data/mmlu/mmlu_all_val.json" "$shaped" <<'PYTHON'
import json
import sys
from pathlib import Path

rows, folder = json.loads(Path(sys.argv[1]).read_text()), Path(sys.argv[2])
subjects = {
    "wmdp_bio": ("biology", "virology", "anatomy", "genetics"),
    "wmdp_cyber": ("computer_security", "college_computer_science"),
    "wmdp_chem": ("chemistry",),
}
parts = {name: [r for r in rows if any(w in r["subject"] for w in words)] for name, words in subjects.items()}
taken = {id(row) for part in parts.values() for row in part}
kept = [row for row in rows if id(row) not in taken]
corpora = {
    "bio_remove_dataset": parts["wmdp_bio"],
    "cyber-forget-corpus": parts["wmdp_cyber"],
    "bio-retain-corpus": kept[0::15],
    "cyber-retain-corpus": kept[7::15],
}
for name, part in {**parts, "mmlu": kept}.items():
    (folder / f"{name}.jsonl").write_text("\n".join(map(json.dumps, part)))
for name, part in corpora.items():
    texts = [{"text": f"{r['question'].strip()} {r['choices'][r['answer']]}"} for r in part]
    (folder / f"{name}.jsonl").write_text("\n".join(map(json.dumps, texts)))
PYTHON
pretrained=(model=hf model.path="$model" target.path="$model" train.lr=2e-5 train.batch_size=8 train.precision=bf16)
pretrained+=(evaluate.precision=bf16 attack.lr=2e-5 attack.batch_size=4 train.micro_batch=4)
run "${pretrained[@]}" benchmark=wmdp benchmark@benchmark.training=wmdp_corpora name=wmdp-shaped \
    benchmark.data_dir="$shaped" benchmark.training.data_dir="$shaped" benchmark.view.mmlu.limit=200 train.steps=20 "$@"

for person in "$data"/rwku/*/; do
    name=$(basename "$person")
    run "${pretrained[@]}" benchmark=rwku benchmark.source.split.forget.limit=256 benchmark.source.split.retain.limit=256 \
        benchmark.data_dir="$person" name="rwku-$name" train.steps=10 train.max_length=512 "$@"
done

runs=(outputs/runs/muse-pocket outputs/runs/muse-news outputs/runs/wmdp-shaped outputs/runs/rwku-*)
"${UNLEARN_REPORT:-.venv/bin/unlearn-report}" "${runs[@]}"
