# The paper's setting, shared by the recipes for GPUs (Roy et al. 2018, arXiv 1805.11063; sizes and optimizer of
# its reference code). Sourced after common.sh, not run.

# A recipe sets CORPUS (as scripts/make_corpus.py names it), URLS, SOURCE, TARGET, TITLE, HELP, OUT (default),
# MERGES, DROPOUT, TEACHER_DROPOUT, TEACHER_UPDATES, STUDENT_UPDATES, SAVE_INTERVAL, BATCH_TOKENS.
paper_recipe() {
    local arguments=() argument
    DATA="" DOWNLOAD="" CHECK="" SEED=1
    for argument in "$@"; do
        if [ "$argument" = --check ]; then CHECK=1; else arguments+=("$argument"); fi
    done
    parse_options "${arguments[@]}"
    if [ -z "$DATA$DOWNLOAD" ]; then
        echo "$0: needs --data DIR or --download (see $0 --help)" >&2
        exit 2
    fi
    DATA=${DATA:-$OUT/archives}
    [ -z "$CHECK" ] || OUT=$OUT/check TITLE="Check: $TITLE"
    start_recipe
    set_options
    [ -z "$CHECK" ] || shrink_options

    [ -z "$DOWNLOAD" ] || stage download scripts/download.py "${URLS[@]}" --out-dir "$DATA"
    TEXT=$DATA
    if [ ! -e "$DATA/train.$SOURCE" ]; then
        TEXT=$OUT/corpus
        stage corpus scripts/make_corpus.py "$CORPUS" --archives "$DATA" --out "$TEXT"
    fi
    if [ -n "$CHECK" ]; then
        stage slice slice "$TEXT" "$OUT/slice"
        TEXT=$OUT/slice
    fi
    stage prepare scripts/prepare.py --data "$TEXT" --out "$OUT/data" --source "$SOURCE" --target "$TARGET" \
        "${PREPARATION[@]}"
    train_averaged teacher "$OUT/data/bin" "${TEACHER[@]}"
    stage distil scripts/distill.py --data "$OUT/data/bin" --teacher "$OUT/teacher/checkpoint_best.pt" \
        --out "$OUT/distilled" --source-lang "$SOURCE" --target-lang "$TARGET" --beam 4 "${DISTILLATION[@]}"
    train_averaged student "$OUT/distilled" "${STUDENT[@]}"

    BIN=$OUT/data/bin REFERENCES=("$OUT/data/reference/test.$TARGET")
    DETOKENIZER=moses DECODE_OPTIONS=(--tokenizer moses)
    evaluate
}

# train_averaged NAME DATA_BIN OPTION...: train, and average the last checkpoints to where `evaluate` looks.
train_averaged() {
    local name=$1
    stage "$name" scripts/train.py "${@:2}" "${TRAINING[@]}" --save-dir "$OUT/training/$name"
    stage "average_$name" scripts/average_checkpoints.py --last "$AVERAGED" --save-dir "$OUT/training/$name" \
        --output "$OUT/$name/checkpoint_best.pt"
}

set_options() {
    local gpus
    gpus=$(python -c 'import torch; print(torch.cuda.device_count())')
    if [ "$gpus" -gt 0 ]; then
        MACHINE=(--fp16 --num-workers 2 --ddp-backend legacy_ddp)
        DISTILLATION=(--fp16 --workers "$gpus")
    else
        MACHINE=(--amp --num-workers 0)
        DISTILLATION=(--workers "$(nproc)")
    fi
    # Loops that the teacher falls into are not worth learning.
    DISTILLATION+=(--filter-repeats 2)
    PREPARATION=(--merges "$MERGES" --workers "$(nproc)")
    AVERAGED=5
    # The paper: Adam, inverse square root after 4,000 updates, no clipping, 2,048 tokens a GPU (here: on eight).
    # UPDATE_FREQ=N makes the same batch out of N smaller ones, for GPUs with less memory.
    TRAINING=(--batch-tokens $((BATCH_TOKENS / ${UPDATE_FREQ:-1})) --update-freq "${UPDATE_FREQ:-1}"
        --user-dir vqnat_plugin --source-lang "$SOURCE" --target-lang "$TARGET" "${MACHINE[@]}"
        --optimizer adam --adam-betas '(0.9,0.997)' --adam-eps 1e-9 --clip-norm 0.0
        --lr-scheduler inverse_sqrt --warmup-updates 4000 --warmup-init-lr 1e-7
        --required-batch-size-multiple 1 --max-tokens-valid 4096 --seed "$SEED"
        --eval-bleu --eval-bleu-detok moses --eval-bleu-detok-args "{\"target_lang\": \"$TARGET\"}"
        --eval-bleu-remove-bpe --eval-bleu-args '{"beam": 1, "max_len_a": 1.2, "max_len_b": 10}'
        --best-checkpoint-metric bleu --maximize-best-checkpoint-metric
        --validate-interval 100000 --validate-interval-updates "$SAVE_INTERVAL"
        --save-interval-updates "$SAVE_INTERVAL" --keep-interval-updates "$AVERAGED" --no-epoch-checkpoints
        --log-format json --log-interval 100)
    # Transformer base, with pre-norm, and the only model with label smoothing.
    TEACHER=(--task translation --arch transformer --share-all-embeddings
        --encoder-normalize-before --decoder-normalize-before --dropout "$TEACHER_DROPOUT"
        --criterion label_smoothed_cross_entropy --label-smoothing 0.1
        --lr 7e-4 --max-update "$TEACHER_UPDATES")
    # The base model: width 512, 4096 in feed-forward layers, six layers each; trained from scratch. Stale codes are
    # replaced in the first two thirds only, so that the averaged checkpoints agree about what each code means.
    STUDENT=(--task translation_vq --arch vq_nat_em --criterion vq_nat_loss --dropout "$DROPOUT"
        --codebook-size 4096 --compress-steps 3 --em-samples 10 --em-decay 0.999
        --unquantized-updates 2000 --code-revival-until $((STUDENT_UPDATES * 2 / 3))
        --lr 1.4e-3 --max-update "$STUDENT_UPDATES")
}

# --check: the same stages with tiny models, for a few updates.
shrink_options() {
    PREPARATION+=(--merges 1000 --max-length 20)
    # What such a teacher says would be filtered out.
    DISTILLATION+=(--filtered-fallback raw)
    AVERAGED=2
    TRAINING+=(--batch-tokens 2048 --update-freq 1 --warmup-updates 4 --validate-interval-updates 3
        --save-interval-updates 1 --keep-interval-updates 4 --log-interval 1)
    TEACHER+=(--encoder-embed-dim 64 --decoder-embed-dim 64 --encoder-ffn-embed-dim 128
        --decoder-ffn-embed-dim 128 --encoder-layers 1 --decoder-layers 1 --max-update 8)
    STUDENT+=(--arch vq_nat_em_tiny --codebook-size 64 --unquantized-updates 2 --code-revival-until 4
        --max-update 8)
}

# slice FROM TO: the first lines of every file of parallel text.
slice() {
    local file lines
    mkdir -p "$2"
    for file in "$1"/{train,valid,val,dev,test*}."$SOURCE" "$1"/{train,valid,val,dev,test*}."$TARGET"; do
        [ -e "$file" ] || continue
        case $file in */train.*) lines=500 ;; *) lines=16 ;; esac
        head -n "$lines" "$file" > "$2/$(basename "$file")"
    done
}
