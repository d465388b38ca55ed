#!/usr/bin/env bash
# English-German image captions (Multi30k, task 1): teacher, distillation, student, report.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/../common.sh"
source "$(dirname "${BASH_SOURCE[0]}")/../small.sh"

HELP='usage: examples/multi30k/run.sh (--data DIR | --download) [--out DIR]

Trains an autoregressive teacher on Multi30k, lets it translate the training set and back-translations of it,
trains vq_nat_em on these translations, and writes report.json, report.md and plots, and in diagnosis/ where BLEU
is lost on valid. Run it again to go on after a kill.

  --data DIR   folder with train.en, train.de, val.en, val.de, test_2016_flickr.en, test_2016_flickr.de
  --download   fetch those files first
  --out DIR    where everything goes (default: runs/multi30k)'

BASE_URL=https://raw.githubusercontent.com/multi30k/dataset/master/data/task1/raw

download() {
    mkdir -p "$DATA"
    local name language
    for name in train val test_2016_flickr; do
        for language in en de; do
            run scripts/download.py "$BASE_URL/$name.$language.gz" --out "$DATA/$name.$language"
        done
    done
}

main() {
    DATA="" OUT=runs/multi30k DOWNLOAD="" SOURCE=en TARGET=de SEED=1
    parse_options "$@"
    start_recipe
    if [ -n "$DOWNLOAD" ]; then
        DATA=${DATA:-$OUT/raw}
        stage download download
    fi
    small_options

    stage prepare scripts/prepare.py --data "$DATA" --out "$OUT/data" --merges 8000
    train teacher "$OUT/data/bin" en de 2400 "${TEACHER_OPTIONS[@]}"
    distil distil "$OUT/data/bin" "$OUT/distilled" --lenpen 1.5

    # More sources for the teacher to translate: the student, above all its predictor, has seen too few. They are
    # samples of a model of the other direction, so that no other text is needed.
    train reverse_teacher "$OUT/data/bin" de en 1600 "${TEACHER_OPTIONS[@]}"
    STUDENT_DATA=$OUT/distilled
    local sample
    for sample in 1 2 3 4; do
        stage "back_translate_$sample" scripts/distill.py --data "$OUT/data/bin" --source-lang de --target-lang en \
            --teacher "$OUT/reverse_teacher/checkpoint_best.pt" --out "$OUT/back_translated_$sample" \
            --sampling --sampling-topk 10 --seed "$sample" --filter-repeats 2 --workers 2
        distil "distil_$sample" "$OUT/back_translated_$sample" "$OUT/distilled_$sample" --lenpen 1.5
        STUDENT_DATA+=:$OUT/distilled_$sample
    done

    # fairseq takes one of these data sets an epoch, in turn.
    student "$STUDENT_DATA" 3000 2200

    BIN=$OUT/data/bin REFERENCES=("$OUT/data/reference/test.de")
    # Chosen on valid: the student's own score favours short outputs.
    CANDIDATES="4 10" LENPEN=2
    DETOKENIZER=moses DECODE_OPTIONS=(--tokenizer moses) TITLE="Multi30k, English to German, test_2016_flickr"
    evaluate
}

main "$@"
