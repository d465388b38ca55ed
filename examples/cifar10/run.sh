#!/usr/bin/env bash
# CIFAR-10: an autoencoder with the EM bottleneck, a prior over its codes, bits a dimension, pictures.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"

HELP='usage: examples/cifar10/run.sh --data DIR [--download] [--out DIR]

Trains vq_vae_em and a prior over its codes, and writes report.json, report.md and pictures. Run it again to go on
after a kill.

  --data DIR   folder of pictures: cifar-10-batches-py as torchvision keeps it, or train/CLASS/*.png, test/CLASS/*.png
  --download   let torchvision fetch CIFAR-10 into that folder first
  --out DIR    where everything goes (default: runs/cifar10)'

main() {
    DATA="" OUT=runs/cifar10 DOWNLOAD=""
    parse_options "$@"
    start_image_recipe
    local autoencoder=$OUT/autoencoder prior=$OUT/prior

    stage autoencoder scripts/train.py --batch-tokens 64 "${IMAGE_OPTIONS[@]}" --arch vq_vae_em --seed 1 \
        --flip --unquantized-updates 500 --code-revival-until 15000 --em-hard-from 15000 \
        --lr 3e-3 --warmup-updates 200 --total-num-update 20000 --max-update 20000 \
        --best-checkpoint-metric pixels_loss --validate-interval 1000 --validate-interval-updates 1000 \
        --save-interval-updates 1000 --save-dir "$autoencoder"
    stage prior scripts/train.py --batch-tokens 64 "${IMAGE_OPTIONS[@]}" --arch vq_image_prior --seed 1 \
        --codes-from "$autoencoder/checkpoint_best.pt" --flip --lr 1e-3 --warmup-updates 300 \
        --total-num-update 2000 --max-update 2000 --validate-interval 1000 --validate-interval-updates 500 \
        --save-interval-updates 500 --keep-interval-updates 1 --save-dir "$prior"
    local earlier=() file
    # fairseq writes none of these for an update that ends an epoch.
    for file in "$autoencoder"/checkpoint_*_{1000,4000}.pt; do
        [ ! -e "$file" ] || earlier+=("$file")
    done
    [ ${#earlier[@]} = 0 ] || earlier=(--earlier "${earlier[@]}")
    stage evaluate scripts/evaluate_images.py "$autoencoder/checkpoint_best.pt" --prior "$prior/checkpoint_best.pt" \
        --data "$DATA" --image-cache "$OUT/images" "${earlier[@]}" --out "$OUT"
    scripts/report_images.py --out "$OUT" --title "$TITLE" --result "vq_vae_em=$OUT/images.json" \
        --train-log "autoencoder=$OUT/logs/autoencoder.log" --train-log "prior=$OUT/logs/prior.log" \
        --stages "$OUT/stages.tsv" --commands-file "$OUT/commands.txt" --seed 1
}

main "$@"
