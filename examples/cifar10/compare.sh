#!/usr/bin/env bash
# usage: examples/cifar10/compare.sh --data DIR [--download] [--out DIR] [--dry-run]
#
# CIFAR-10: how steadily do codebooks train? Trains small autoencoders, three seeds of each kind of codebook with the
# same budget, as grid.yaml says, with code vectors of 64 and of 4 values, and writes report.json and report.md:
# reconstruction, its deviation over seeds, use of the codes, collapsed runs. Run it again to go on after a kill.
#
#   --data DIR  folder of images, as for run.sh
#   --download  let torchvision fetch CIFAR-10 into that folder first
#   --out DIR   where everything goes (default: runs/cifar10_compare)
#   --dry-run   print the commands and run nothing

OUT=runs/cifar10_compare
source "$(dirname "${BASH_SOURCE[0]}")/../recipe.sh" "$@"
need_data "--data: name a folder of images"

given DOWNLOAD stage_cifar10
always vqnat ablate examples/cifar10/grid.yaml --data "$DATA" --out "$OUT"
