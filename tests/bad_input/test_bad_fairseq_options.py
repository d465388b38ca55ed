"""fairseq's own options, and ours beside them, in fairseq's commands with the plugin."""

from pathlib import Path

from malformed import Things
from refusals import Warm, assert_refused, cases

TRAIN = (
    "{data} --task translation_vq --arch vq_nat_em_tiny --criterion vq_nat_loss --optimizer adam --lr 0.001"
    " --max-tokens 100 --cpu --num-workers 0 --save-dir out --embed-dim 32 --ffn-dim 64 --attention-heads 2"
    " --encoder-layers 1 --predictor-layers 1 --decoder-layers 1 --codebook-size 16 --max-update 2"
    " --log-format none --disable-validation --no-epoch-checkpoints "
)
MEASURE = TRAIN.replace("--disable-validation", "--eval-bleu --validate-interval 1")
DECODE = "--path {student_pt} --task translation_vq --cpu --max-tokens 100 --required-batch-size-multiple 1 "
GENERATE = "{data} " + DECODE
# What no training can have: options, and what the line names.
TRAINING = (
    "--lr nan", "--lr inf", "--lr x", "--lr=-1", "--lr ''", "--lr '[0.1'", "--lr '[]'",
    "--max-tokens 0", "--max-tokens=-5", "--max-tokens nan", "--max-tokens {twenty}", "--max-tokens 1",
    "--batch-size 0", "--batch-size=-1", "--batch-size x",
    "--update-freq 0", "--update-freq=-1", "--update-freq x", "--update-freq nan", "--update-freq ''",
    "--max-update=-1", "--max-update x", "--max-epoch=-1", "--max-epoch nan",
    "--clip-norm nan", "--clip-norm=-1", "--clip-norm x", "--weight-decay nan",
    "--adam-betas x", "--adam-betas '(0.9'", "--adam-betas '(2,3)'", "--adam-betas 5",
    "--adam-betas '(0.9,nan)'",
    "--adam-eps nan", "--adam-eps=-1",
    "--seed nan", "--seed {twenty}", "--seed x", "--seed=-1",
    "--codebook-size 999999999999", "--codebook-size {twenty}", "--codebook-size 0", "--codebook-size=-1",
    "--codebook-size nan", "--codebook-size 1.5", "--code-dim 999999999999", "--em-samples 0",
    "--em-samples 999999999999", "--em-decay nan", "--em-decay 1", "--em-temperature 0",
    "--em-temperature inf",
    "--em-epsilon 0", "--code-revival 2", "--commitment-weight nan", "--unquantized-updates=-1",
    "--dropout nan", "--dropout 1.5", "--dropout=-1", "--label-smoothing 2", "--embed-dim 0",
    "--embed-dim 33",
    "--embed-dim 999999999999", "--ffn-dim 999999999999", "--encoder-layers 0",
    "--encoder-layers 999999999999",
    "--attention-heads 3", "--attention-heads 0", "--compress-steps 7", "--compress-steps=-1",
    "--bottleneck soft", "--codebook-init zero", "--decoder-attention left", "--gold-mixing-updates 5",
    "--arch nosuch", "--task nosuch", "--criterion nosuch", "--optimizer nosuch", "--lr-scheduler nosuch",
    "--no-such-option", "--no-such-option 5", "--left-pad-target",
    "--num-workers=-1", "--num-workers {twenty}",
    "--save-interval 0", "--save-interval-updates=-1", "--validate-interval 0", "--log-interval 0",
    "--keep-last-epochs x", "--patience x", "--stop-min-lr nan", "--required-batch-size-multiple 0",
    "--max-source-positions 0", "--max-target-positions nan", "--warmup-updates x",
    "--warmup-updates 0 --lr-scheduler inverse_sqrt",
    "--distributed-world-size 0", "--distributed-world-size=-2",
    "--restore-file missing.pt", "--finetune-from-model missing.pt",
    "--init-from-teacher missing.pt", "--user-dir missing", "--save-dir {five.txt}",
    "--save-dir {five.txt}/x",
    "--log-file {five.txt}/x", "--train-subset nosuch", "--fp16", "--bf16",
    "--ddp-backend fully_sharded", "--ddp-backend nosuch", "--source-lang en --target-lang en",
    "--target-lang fr", "--sentence-avg", "--num-batch-buckets 2",
)  # fmt: skip
MEASURING = (
    "--eval-bleu-args '{bad'", "--eval-bleu-args '[1]'", "--eval-bleu-args 5", "--eval-bleu-args '\"x\"'",
    "--eval-bleu-args null", "--eval-bleu-args ''", "--eval-bleu-args '{\"beam\": 0}'",
    "--eval-bleu-args '{\"beam\": \"x\"}'", "--eval-bleu-args '{\"beam\": 100000}'",
    "--eval-bleu-args '{\"beam\": NaN}'", "--eval-bleu-args '{\"lenpen\": NaN}'",
    "--eval-bleu-args '{\"bogus\": 1}'", "--eval-bleu-args '{\"max_len_b\": -3}'",
    "--eval-bleu-detok nosuch", "--eval-bleu-detok-args '{bad'", "--eval-bleu-detok-args '[1]'",
    "--eval-bleu-detok moses --eval-bleu-detok-args '{\"bogus\": 1}'", "--best-checkpoint-metric nosuch",
    "--valid-subset nosuch", "--validate-interval-updates=-1",
)  # fmt: skip
DECODING = (
    "--beam 0", "--beam=-1", "--beam x", "--beam nan", "--beam 1.5", "--beam 100000", "--beam {twenty}",
    "--nbest 0", "--nbest 9 --beam 4", "--nbest=-1", "--lenpen nan", "--lenpen inf", "--lenpen x",
    "--unkpen nan",
    "--max-len-a nan", "--max-len-a=-1", "--max-len-a inf", "--max-len-a 1e300", "--max-len-b=-1",
    "--max-len-b {twenty}", "--max-len-b x", "--min-len=-1", "--min-len {twenty}", "--min-len 300",
    "--max-tokens 0", "--max-tokens=-1", "--max-tokens 2", "--batch-size 0", "--batch-size=-1",
    "--seed {twenty}",
    "--seed=-1", "--temperature 0", "--temperature nan", "--no-such-option",
    "--model-overrides '{'", "--model-overrides '[1]'", "--model-overrides 5", "--model-overrides ''",
    "--model-overrides x", "--model-overrides '{\"embed_dim\": \"x\"}'",
    "--model-overrides '{\"embed_dim\": 64}'",
    "--model-overrides '{\"codebook_size\": 1000000000000}'", "--model-overrides '{\"bogus\": 1}'",
    "--model-overrides '{1: 2}'", "--model-overrides '__import__(\"os\")'", "--gen-subset nosuch",
    "--source-lang en --target-lang en", "--source-lang fr", "--post-process nosuch", "--tokenizer nosuch",
    "--bpe nosuch", "--bpe sentencepiece", "--rescore-with missing.pt", "--results-path {five.txt}",
    "--num-shards 0", "--num-shards 2", "--sacrebleu", "--shard-id 5",
    "--constraints", "--path ''", "--required-batch-size-multiple 0",
    "--skip-invalid-size-inputs-valid-test --max-source-positions x", "--user-dir missing",
    "--prefix-size=-1",
    "--lm-path missing.pt", "--checkpoint-shard-count 0", "--checkpoint-suffix x",
    "--distributed-world-size 0",
)  # fmt: skip
PREPROCESSING = (
    "--trainpref missing", "--trainpref {text}/train --workers 0", "--trainpref {text}/train --workers=-1",
    "--trainpref {text}/train --srcdict missing", "--trainpref {text}/train --srcdict {garbage.txt}",
    "--trainpref {text}/train --destdir {five.txt}", "--trainpref {text}/train --nwordssrc x",
    "--trainpref {text}/train --thresholdsrc nan", "--trainpref {text}/train --target-lang fr",
    "--validpref missing --srcdict {data}/dict.en.txt", "--no-such-option",
    "--trainpref {text}/train --workers x",
    "--trainpref {text}/train --padding-factor 0", "--trainpref {text}/train --target-lang en",
    "--trainpref {text}/train --testpref missing", "--trainpref {garbage_pref}",
)  # fmt: skip


def _named(options: str) -> tuple[str, ...]:
    """What the line may name: the last option that stands there, which is the one at fault, or its value."""
    # Behind a blank: names have "--" in them too.
    last = options[(" " + options).rindex(" --") :].strip()
    name, _, value = last.replace("=", " ", 1).partition(" ")
    value = {"2": "max_tokens=2", "{data}/dict.en.txt": "--validpref"}.get(value, value)
    if "--trainpref" in options:
        return (name, value, "{text}/train.fr")
    by_file = ("{student_pt}", "studentx.pt") if name in ("--model-overrides", "--checkpoint-suffix") else ()
    return (name, value, *by_file) if len(value) > 3 else (name, *by_file)


CASES = [
    *((f"worker {TRAIN}{options}", _named(options)) for options in TRAINING),
    *((f"worker {MEASURE}{options}", _named(options)) for options in MEASURING),
    *((f"fairseq-train {TRAIN}{options}", _named(options)) for options in TRAINING[::6]),
    *((f"fairseq-generate {GENERATE}{options}", _named(options)) for options in DECODING),
    *((f"vqnat generate {GENERATE}{options}", _named(options)) for options in DECODING[::3]),
    *(
        (f"vqnat generate --input {{five.txt}} --output out.txt {DECODE}{options}", _named(options))
        for options in DECODING[1::3]
        if "--gen-subset" not in options and "--checkpoint-suffix" not in options
    ),
    *(
        (f"fairseq-interactive {GENERATE} -s en -t de --input {{five.txt}} {options}", _named(options))
        for options in DECODING[2::4]
        # Which it does not look at, or which five words do not reach.
        if options not in ("--gen-subset nosuch", "--results-path {five.txt}", "--max-tokens 2")
    ),
    ("fairseq-interactive {data} -s en -t de " + DECODE + "--batch-size 4 --buffer-size 2", "--buffer-size"),
    ("fairseq-interactive {data} -s en -t de " + DECODE + "--input missing", "missing"),
    ("fairseq-interactive {data} -s en -t de " + DECODE + "--input {latin1.txt}", "{latin1.txt}"),
    *((f"fairseq-validate {GENERATE}{options}", _named(options)) for options in (
        "--max-tokens 0", "--batch-size=-1", "--model-overrides '{'", "--model-overrides '[1]'",
        "--valid-subset nosuch", "--seed {twenty}", "--no-such-option", "--path ''",
    )),
    *(
        (f"fairseq-preprocess -s en -t de --destdir out --joined-dictionary {options}", _named(options))
        for options in PREPROCESSING
    ),
    ("fairseq-score --sys missing --ref {five.txt}", "missing"),
    ("fairseq-score --sys {five.txt} --ref missing", "missing"),
    ("fairseq-eval-lm {data} --path {student_pt} --cpu", "dict.txt"),
    ("fairseq-hydra-train task._name=nosuch", "nosuch"),
    ("fairseq-hydra-train --config-dir missing --config-name x", "missing"),
    ("vqnat train {data} --arch vq_nat_em_tiny", "--batch-tokens"),
    ("vqnat train {data} --batch-tokens 100", "--arch"),
    ("vqnat train {data} --arch vq_nat_em_tiny --batch-tokens 1 --workers 2", "--batch-tokens 1"),
    ("vqnat train {data} --arch vq_nat_em_tiny --batch-tokens 100 --workers 100000000", "--workers"),
]  # fmt: skip


@cases(CASES)
def test_it_is_refused(
    line: str, named: str | tuple[str, ...], warm: Warm, tmp_path: Path, things: Things
) -> None:
    assert_refused(warm, tmp_path, line, named, things)
