#!/usr/bin/env bash
# usage: examples/quickstart/run.sh [--data DIR] [--out DIR] [--dry-run]
#
# The whole job on a small made-up corpus, from nothing to a table of results: sets up the environment, makes
# English-German text with several right translations of each sentence, trains an autoregressive teacher, distils it,
# trains vq_nat_em on its translations, decodes a test set and writes report.json, report.md and plots. Five to
# ten minutes on two cores; run it again to go on after a kill.
#
#   --data DIR  folder with train, valid and test text (train.en, train.de, ...) instead of the made-up corpus
#   --out DIR   where everything goes (default: runs/quickstart)
#   --dry-run   print the commands and run nothing

OUT=runs/quickstart
source "$(dirname "${BASH_SOURCE[0]}")/../recipe.sh" "$@"

TEACHER=$OUT/teacher/checkpoint_best.pt STUDENT=$OUT/student/checkpoint_best.pt
TRAINING=(--batch-tokens 2048 --source-lang en --target-lang de
    --optimizer adam --adam-betas '(0.9,0.98)' --clip-norm 1.0 --amp --lr-scheduler polynomial_decay
    --warmup-updates 100 --total-num-update 700 --max-update 700
    --required-batch-size-multiple 1 --num-workers 0 --seed 1
    --validate-interval 1000 --validate-interval-updates 400 --save-interval-updates 400
    --keep-interval-updates 1 --no-epoch-checkpoints --log-format json --log-interval 50)

# What setup.sh --no-venv installed stays as it is.
ACTIVE=$([ -d .venv ] || { python -c "import fairseq" 2> /dev/null && command -v vqnat; } || true)
[ -n "$ACTIVE" ] || always scripts/setup.sh
[ -n "$DATA" ] || stage corpus python examples/quickstart/toy_corpus.py --out "$OUT/corpus" --train 15000 --seed 1

stage prepare vqnat prepare --data "${DATA:-$OUT/corpus}" --out "$OUT/data" --source-lang en --target-lang de \
    --merges 5000

stage teacher vqnat train "$OUT/data/bin" "${TRAINING[@]}" --task translation \
    --arch transformer --share-all-embeddings --encoder-normalize-before --decoder-normalize-before \
    --encoder-embed-dim 128 --decoder-embed-dim 128 --encoder-ffn-embed-dim 512 --decoder-ffn-embed-dim 512 \
    --encoder-attention-heads 4 --decoder-attention-heads 4 --encoder-layers 2 --decoder-layers 2 --dropout 0.1 \
    --criterion label_smoothed_cross_entropy --label-smoothing 0.1 --lr 4e-3 --save-dir "$OUT/teacher"

stage distil vqnat distill --data "$OUT/data/bin" --teacher "$TEACHER" \
    --out "$OUT/distilled" --source-lang en --target-lang de --beam 4 --workers 2

stage student vqnat train "$OUT/distilled" "${TRAINING[@]}" --task translation_vq \
    --arch vq_nat_em_tiny --compress-steps 1 --criterion vq_nat_loss \
    --init-from-teacher "$TEACHER" --unquantized-updates 60 --code-revival-until 480 \
    --eval-bleu --eval-bleu-args '{"beam": 1, "max_len_a": 1.2, "max_len_b": 10}' \
    --best-checkpoint-metric bleu --maximize-best-checkpoint-metric --lr 3e-3 --save-dir "$OUT/student"

# All right translations of the made-up test set count: test.de, test.de.1, test.de.2, ...
always vqnat compare "$OUT/data/bin" --source-lang en --target-lang de --ref "$OUT"/data/reference/test.de* \
    --out "$OUT" --title "Quickstart: $(basename "${DATA:-a made-up English-German corpus}")" --seed 1 \
    --train-log teacher="$OUT/logs/teacher.log" --train-log student="$OUT/logs/student.log" \
    --max-len-a 1.2 --max-len-b 10 --baseline teacher_greedy \
    --system teacher_beam4 "$TEACHER" beam=4 \
    --system teacher_greedy "$TEACHER" \
    --system student_greedy "$STUDENT" \
    --system student_4_candidates "$STUDENT" beam=4 \
    --system student_4_rescored "$STUDENT" beam=4 rescore_with="$TEACHER"
