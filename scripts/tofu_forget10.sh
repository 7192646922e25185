#!/usr/bin/env bash
# Real TOFU, forget10, a from-scratch model: several methods on one fine-tune, a table each.
#   scripts/tofu_forget10.sh FOLDER_WITH_THE_UPSTREAM_JSON_FILES [OVERRIDE ...]
set -euo pipefail
data=$(realpath "${1:?folder with full.json, forget10.json, ...}")
shift
cd "$(dirname "$0")/.."
for method in gd ga npo; do
    for rectifier in none gru; do
        .venv/bin/unlearn experiment=tofu_scratch benchmark.data_dir="$data" \
            benchmark.forget=forget10 method="$method" rectifier="$rectifier" "$@"
    done
done
