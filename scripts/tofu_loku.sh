#!/usr/bin/env bash
# LoKU and its baselines on real TOFU: a Llama of 0.7 million parameters, made from scratch, learns 40 of
# the 200 authors (forget10's 20 and the first 20 of the others); then eight trials of each, the best
# picked on one half of the authors and reported on the other. Scores are probabilities alone, and there
# is no retain-only model. Plan and words: docs/loku.md.
#   scripts/tofu_loku.sh FOLDER_WITH_THE_UPSTREAM_JSON_FILES [OVERRIDE ...]
set -euo pipefail
data=$(realpath "${1:?folder with full.json, forget10.json, ...}")
shift
cd "$(dirname "$0")/.."
common=(
    experiment=tofu_scratch benchmark.data_dir="$data" rectifier=none keep=scores
    model.shape.hidden_size=128 model.shape.intermediate_size=512 model.vocab_size=2048
    model.pretrain.epochs=8 model.pretrain.precision=float32
    target.train.lr=3e-3 target.train.epochs=24 target.train.precision=float32
    train.precision=float32 train.clip=null
    benchmark.authors=40 benchmark.view.retain.split=retain90 benchmark.view.retain.limit=200
    benchmark.view.real_authors.limit=50 benchmark.view.world_facts.limit=50
    '~benchmark.metric.rouge_l' '~benchmark.metric.truth_ratio' '~benchmark.metric.forget_quality'
    'benchmark.metric.model_utility.parts=[probability]' sweep.select.criterion=forgetting
)
for view in forget retain real_authors world_facts; do
    common+=("benchmark.view.$view.probes=[logprobs]")
done
lora=(adapter=lora adapter.alpha=null adapter.dropout=0)
ranks=(adapter.rank=4,8,16,32 train.lr=1e-3,3e-3)
way() {
    local forget=$1 name=$2
    shift 2
    "${UNLEARN:-.venv/bin/unlearn}" -m "${common[@]}" name="$forget-$name" \
        benchmark.forget="$forget" "benchmark.requests.$forget.view=$forget" "$@"
}
for forget in forget01 forget05 forget10; do
    way $forget ihl-fila method=ihl adapter=fila "${ranks[@]}" "$@"
    way $forget gd-lora method=gd "${lora[@]}" "${ranks[@]}" "$@"
    way $forget gd method=gd train.lr=3e-5,1e-4,2e-4,3e-4,5e-4,1e-3,2e-3,3e-3 "$@"
done
