#!/usr/bin/env bash
# usage: examples/bottleneck/compare.sh --data DIR [--download] [--out DIR] [--dry-run]
#
# Does EM still pay? Trains small autoencoders of CIFAR-10 with EM and what came after it, three
# seeds each with the same budget, as images.yaml says, and writes report.json, report.md and a plot: bits a dimension,
# their deviation over seeds, use of the codes. Run it again to go on after a kill.
#
#   --data DIR  folder of images, as for examples/cifar10/run.sh
#   --download  let torchvision fetch CIFAR-10 into that folder first
#   --out DIR   where everything goes (default: runs/bottleneck)
#   --dry-run   print the commands and run nothing

OUT=runs/bottleneck
source "$(dirname "${BASH_SOURCE[0]}")/../recipe.sh" "$@"
need_data "--data: name a folder of images"

given DOWNLOAD stage_cifar10
always vqnat ablate examples/bottleneck/images.yaml --data "$DATA" --out "$OUT" --jobs 2
