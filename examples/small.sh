# What the recipes with small models on real text share: options, trainings, distillation. Sourced, not run.

# Sets SHARED_OPTIONS, of all trainings, and TEACHER_OPTIONS. Uses SEED.
small_options() {
    SHARED_OPTIONS=(--user-dir vqnat_plugin --optimizer adam --adam-betas '(0.9,0.98)' --clip-norm 1.0 --amp
        --lr-scheduler polynomial_decay --required-batch-size-multiple 1 --num-workers 0 --seed "$SEED"
        --eval-bleu --eval-bleu-detok moses --eval-bleu-remove-bpe
        --eval-bleu-args '{"beam": 1, "max_len_a": 1.2, "max_len_b": 10}'
        --best-checkpoint-metric bleu --maximize-best-checkpoint-metric
        --validate-interval 1000 --validate-interval-updates 400 --save-interval-updates 400
        --keep-interval-updates 1 --no-epoch-checkpoints --log-format json --log-interval 50)
    TEACHER_OPTIONS=(--task translation --arch transformer --share-all-embeddings
        --encoder-normalize-before --decoder-normalize-before --encoder-embed-dim 256 --decoder-embed-dim 256
        --encoder-ffn-embed-dim 1024 --decoder-ffn-embed-dim 1024 --encoder-attention-heads 4
        --decoder-attention-heads 4 --encoder-layers 3 --decoder-layers 3 --dropout 0.3
        --criterion label_smoothed_cross_entropy --label-smoothing 0.1 --lr 2e-3 --warmup-updates 400)
}

# train NAME DATA SOURCE TARGET UPDATES OPTION...: the stage NAME, a training in that direction.
train() {
    local name=$1 data=$2 source=$3 target=$4 updates=$5
    shift 5
    stage "$name" scripts/train.py --batch-tokens 4096 "$data" "${SHARED_OPTIONS[@]}" \
        --source-lang "$source" --target-lang "$target" --eval-bleu-detok-args "{\"target_lang\": \"$target\"}" \
        "$@" --total-num-update "$updates" --max-update "$updates" --save-dir "$OUT/$name"
}

# student DATA UPDATES REVIVAL_UNTIL: train the student, and look where it loses BLEU. Uses SOURCE and TARGET.
student() {
    train student "$1" "$SOURCE" "$TARGET" "$2" --task translation_vq --arch vq_nat_em_small --criterion vq_nat_loss \
        --init-from-teacher "$OUT/teacher/checkpoint_best.pt" --dropout 0.1 --codebook-size 512 --compress-steps 2 \
        --unquantized-updates 100 --code-revival-until "$3" --lr 1.5e-3 --warmup-updates 200
    stage diagnose scripts/diagnose.py "$OUT/student/checkpoint_best.pt" --subset valid --out "$OUT/diagnosis"
}

# distil STAGE DATA OUT OPTION...: the teacher's translations of a data set. Uses SOURCE and TARGET.
distil() {
    local stage=$1 data=$2 out=$3
    shift 3
    stage "$stage" scripts/distill.py --data "$data" --teacher "$OUT/teacher/checkpoint_best.pt" --out "$out" \
        --source-lang "$SOURCE" --target-lang "$TARGET" --beam 4 "$@" --filter-repeats 2 --workers 2
}
