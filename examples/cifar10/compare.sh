#!/usr/bin/env bash
# CIFAR-10: how steadily do codebooks train? Soft EM, hard EM and gradients, three seeds each, small models.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"

HELP='usage: examples/cifar10/compare.sh --data DIR [--download] [--out DIR]

Trains small autoencoders, three seeds of each kind of codebook with the same budget, with code vectors of 64 and of
4 values, and writes report.json and report.md: reconstruction, its deviation over seeds, use of the codes, collapsed
runs. Run it again to go on after a kill.

  --data DIR   folder of pictures, as for run.sh
  --download   let torchvision fetch CIFAR-10 into that folder first
  --out DIR    where everything goes (default: runs/cifar10_compare)'

# Values of a code vector, and the temperature that fits them. Wide vectors are harder on codebooks.
declare -A WIDTHS=(["4"]="--code-dim 4" ["64"]="--code-dim 64 --em-temperature 1")
# The start of the reference code: random codes, no revival; gradients have no other.
PLAIN="--unquantized-updates 0 --codebook-init random --code-revival 0"
declare -A KINDS=(
    ["soft EM"]="--bottleneck em"
    ["soft EM, then hard"]="--bottleneck em --em-hard-from 1500"
    ["hard EM"]="--bottleneck hard"
    ["soft EM, plain"]="--bottleneck em $PLAIN"
    ["hard EM, plain"]="--bottleneck hard $PLAIN"
    ["gradients"]="--bottleneck gradient --unquantized-updates 0"
)
ORDER=("soft EM" "soft EM, then hard" "hard EM" "soft EM, plain" "hard EM, plain" "gradients")

main() {
    DATA="" OUT=runs/cifar10_compare DOWNLOAD=""
    parse_options "$@"
    start_image_recipe
    local width seed kind name results=() logs=() flags
    for width in 64 4; do
        for seed in 1 2 3; do
            for kind in "${ORDER[@]}"; do
                name=${width}_${kind//[ ,]/}_$seed
                read -ra flags <<< "${WIDTHS[$width]} --unquantized-updates 100 ${KINDS[$kind]}"
                stage "train_$name" scripts/train.py --batch-tokens 64 "${IMAGE_OPTIONS[@]}" \
                    --arch vq_vae_em_tiny --seed "$seed" --codebook-size 256 "${flags[@]}" \
                    --lr 3e-3 --warmup-updates 100 --total-num-update 2000 --max-update 2000 \
                    --disable-validation --save-interval-updates 500 --keep-interval-updates 1 \
                    --save-dir "$OUT/$name"
                stage "evaluate_$name" evaluate_small "$name"
                results+=(--result "$width values, $kind=$OUT/$name/evaluation/images.json")
                [ "$width $seed" != "64 1" ] || logs+=(--train-log "$kind=$OUT/logs/train_$name.log")
            done
        done
    done
    scripts/report_images.py --out "$OUT" --title "$TITLE: how codebooks train" "${results[@]}" "${logs[@]}" \
        --note "small models (vq_vae_em_tiny with 256 codes, four a position), 2,000 updates of 64 pictures; seeds 1, 2, 3" \
        --note "values: of a code vector; plain: the start of the reference code, random codes and no revival; then hard: nearest codes from update 1,500" \
        --note "training.png: code vectors of 64 values, seed 1" \
        --stages "$OUT/stages.tsv" --commands-file "$OUT/commands.txt"
}

evaluate_small() {
    run scripts/evaluate_images.py "$OUT/$1/checkpoint_last.pt" --data "$DATA" --image-cache "$OUT/images" \
        --out "$OUT/$1/evaluation"
}

main "$@"
