#!/usr/bin/env bash
# usage: examples/cifar10/run.sh --data DIR [--download] [--out DIR] [--dry-run]
#
# CIFAR-10. Trains an autoencoder with the EM bottleneck (vq_vae_em) and a prior over its codes, and writes
# report.json with bits a dimension, report.md and images. Run it again to go on after a kill.
#
#   --data DIR  folder of images: cifar-10-batches-py as torchvision keeps it, or train/CLASS/*.png, test/CLASS/*.png
#   --download  let torchvision fetch CIFAR-10 into that folder first
#   --out DIR   where everything goes (default: runs/cifar10)
#   --dry-run   print the commands and run nothing

OUT=runs/cifar10
source "$(dirname "${BASH_SOURCE[0]}")/../recipe.sh" "$@"
need_data "--data: name a folder of images"

AUTOENCODER=$OUT/autoencoder/checkpoint_best.pt PRIOR=$OUT/prior/checkpoint_best.pt
TRAINING=(--batch-tokens 64 --task image_vq --criterion vq_vae_loss --image-cache "$OUT/images" --flip
    --optimizer adam --adam-betas '(0.9,0.99)' --clip-norm 1.0 --amp --lr-scheduler polynomial_decay
    --required-batch-size-multiple 1 --num-workers 0 --seed 1
    --no-epoch-checkpoints --log-format json --log-interval 100)

given DOWNLOAD stage_cifar10

stage autoencoder vqnat train "$DATA" "${TRAINING[@]}" --arch vq_vae_em \
    --unquantized-updates 500 --code-revival-until 15000 --em-hard-from 15000 \
    --lr 3e-3 --warmup-updates 200 --total-num-update 20000 --max-update 20000 \
    --best-checkpoint-metric pixels_loss --validate-interval 1000 --validate-interval-updates 1000 \
    --save-interval-updates 1000 --save-dir "$OUT/autoencoder"

stage prior vqnat train "$DATA" "${TRAINING[@]}" --arch vq_image_prior --codes-from "$AUTOENCODER" \
    --lr 1e-3 --warmup-updates 300 --total-num-update 2000 --max-update 2000 \
    --validate-interval 1000 --validate-interval-updates 500 --save-interval-updates 500 \
    --keep-interval-updates 1 --save-dir "$OUT/prior"

always vqnat images evaluate "$AUTOENCODER" --data "$DATA" --prior "$PRIOR" \
    --earlier-updates 1000 4000 --out "$OUT" --title CIFAR-10 --seed 1 \
    --train-log autoencoder="$OUT/logs/autoencoder.log" --train-log prior="$OUT/logs/prior.log"
