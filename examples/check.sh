# --check of the recipes for GPUs: the same stages with tiny models, for a few updates. Sourced by them.
PREPARATION+=(--merges 1000 --max-length 20)
# What such a teacher says would be filtered out.
DISTILLATION+=(--filtered-fallback raw)
AVERAGE=(--num-update-checkpoints 2)
TRAINING+=(--batch-tokens 2048 --update-freq 1 --num-workers 0 --warmup-updates 4
    --validate-interval-updates 3 --save-interval-updates 1 --keep-interval-updates 4 --log-interval 1)
TEACHER_MODEL+=(--encoder-embed-dim 64 --decoder-embed-dim 64 --encoder-ffn-embed-dim 128
    --decoder-ffn-embed-dim 128 --encoder-layers 1 --decoder-layers 1 --max-update 8)
STUDENT_MODEL+=(--arch vq_nat_em_tiny --codebook-size 64 --unquantized-updates 2 --code-revival-until 4
    --max-update 8)
SLICE=$OUT/slice
