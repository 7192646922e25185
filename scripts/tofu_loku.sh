#!/usr/bin/env bash
# LoKU and its baselines on real TOFU, a small from-scratch model: eight trials each, the best picked on
# part A of the evaluated authors and reported on part B. Plan and words: docs/loku.md.
#   scripts/tofu_loku.sh FOLDER_WITH_THE_UPSTREAM_JSON_FILES [OVERRIDE ...]
set -euo pipefail
data=$(realpath "${1:?folder with full.json, forget10.json, ...}")
shift
cd "$(dirname "$0")/.."
lora=(adapter=lora adapter.alpha=null adapter.dropout=0)
ranks=(adapter.rank=4,8,16,32 train.lr=1e-3,3e-3)
way() {
    local name=$1
    shift
    "${UNLEARN:-.venv/bin/unlearn}" -m experiment=loku/tofu_scratch benchmark.data_dir="$data" \
        '~benchmark.metric.rouge_l' '~benchmark.metric.truth_ratio' '~benchmark.metric.forget_quality' \
        sweep.select.criterion=forgetting keep=scores name="$name" "$@"
}
for forget in forget01 forget05 forget10; do
    way "$forget-ihl-fila" benchmark.forget=$forget method=ihl adapter=fila "${ranks[@]}" "$@"
    way "$forget-gd-lora" benchmark.forget=$forget method=gd "${lora[@]}" "${ranks[@]}" "$@"
    way "$forget-gd" benchmark.forget=$forget method=gd adapter=none \
        train.lr=3e-5,1e-4,2e-4,3e-4,5e-4,1e-3,2e-3,3e-3 "$@"
done
