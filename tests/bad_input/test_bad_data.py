"""Malformed text, dictionaries and binarised data."""

from pathlib import Path

from malformed import Things
from refusals import Warm, assert_refused, cases

PREPARE = "vqnat prepare --out out --merges 20 "
LANGUAGES = " --source-lang en --target-lang de "
DISTILL = "vqnat distill --teacher {teacher_pt} --out out --cpu --data "
TRAIN = (
    " --task translation_vq --arch vq_nat_em_tiny --criterion vq_nat_loss --optimizer adam --lr 1"
    " --max-tokens 100 --cpu --num-workers 0 --save-dir out --embed-dim 32 --ffn-dim 64 --attention-heads 2"
    " --encoder-layers 1 --predictor-layers 1 --decoder-layers 1 --codebook-size 16 --max-update 1"
    " --disable-validation"
)
DECODE = " --path {student_pt} --task translation_vq --cpu --max-tokens 100 "
STUDENT = "{student_pt} --cpu --out out --data "
SYSTEM = " --out out --cpu --system s {student_pt}"

PREPARING = [
    (PREPARE + "--data {five.txt} {three.txt}", "{three.txt}"),
    (PREPARE + "--data {empty.txt} {empty.txt}", "{empty.txt}"),
    (PREPARE + "--data {latin1.txt} {latin1.txt}", "{latin1.txt}"),
    (PREPARE + "--data {garbage.txt} {five.txt}", "{garbage.txt}"),
    (PREPARE + "--data {returns.txt} {five.txt}", "{returns.txt}"),
    (PREPARE + "--data {five.txt}", "{five.txt}"),
    (PREPARE + "--data {five.txt} {five.txt} {five.txt}", "--data"),
    (PREPARE + "--data {five.txt} {five_more.txt} --held-out 3", "--held-out 3"),
    (PREPARE + "--data {five.txt} {five_more.txt}", "--held-out"),
    (PREPARE + "--data {text} {text}", "--data"),
    (PREPARE + "--data {five.txt} {five.txt}", "{five.txt}"),
    (PREPARE + "--data {bad_table}/train.tsv {bad_table}/val.tsv", "train.tsv"),
    (PREPARE + "--data {text} --merges {twenty}", "--merges"),
    (PREPARE + "--data {no_data}", "{no_data}"),
    (PREPARE + "--data missing", "--data missing"),
    (PREPARE + "--data {only_blanks}", "--data {only_blanks}"),
    (PREPARE + "--data {only_blanks} --tokenizer sentencepiece", "--data {only_blanks}"),
    (PREPARE + "--data {bad_table}", "train.tsv"),
    (PREPARE + "--data {bad_objects}", "train.jsonl"),
    (PREPARE + "--data {deep_objects}", "train.jsonl"),
    (PREPARE + "--data {text}" + LANGUAGES + "--target-lang en", "--target-lang en"),
    (PREPARE + "--data {text}" + LANGUAGES + "--target-lang ''", "--target-lang"),
    (PREPARE + "--data {text}" + LANGUAGES + "--target-lang ../de", "../de"),
    (PREPARE + "--data {text}" + LANGUAGES + "--target-lang no-such-tongue", "no-such-tongue"),
    (PREPARE + "--data {text}" + LANGUAGES + "--source-lang fr", "train.fr"),
    (PREPARE + "--data {text} --tokenizer moses --target-lang zh", "--tokenizer moses"),
    (PREPARE + "--data {text} --bpe-codes {empty.txt}", "{empty.txt}"),
    (PREPARE + "--data {text} --bpe-codes {garbage.txt}", "{garbage.txt}"),
    (PREPARE + "--data {text} --bpe-codes {five.txt}", "{five.txt}"),
    (PREPARE + "--data {text} --bpe-codes missing", "--bpe-codes missing"),
    (PREPARE + "--data {text} --bpe-codes {no_data}", "--bpe-codes {no_data}"),
    (PREPARE + "--data {text} --sentencepiece-model {garbage.txt}", "{garbage.txt}"),
    (PREPARE + "--data {text} --sentencepiece-model {empty.txt}", "{empty.txt}"),
    (PREPARE + "--data {text} --bpe-codes {five.txt} --sentencepiece-model {five.txt}", "--bpe-codes"),
    (PREPARE + "--data {text} --srcdict {empty.txt}", "{empty.txt}"),
    (PREPARE + "--data {text} --srcdict {garbage.txt}", "{garbage.txt}"),
    (PREPARE + "--data {text} --srcdict {five.txt}", "{five.txt}"),
    (PREPARE + "--data {text} --tgtdict {data}/dict.de.txt", "--tgtdict"),
    ("vqnat prepare --data {text} --out {five.txt}", "{five.txt}"),
    ("vqnat prepare --data {text} --out {five.txt}/out", "{five.txt}"),
    ("vqnat prepare --data {text} --out /proc/out", "/proc/out"),
    ("vqnat prepare --data {text} --out ''", "--out"),
    ("vqnat prepare --data {text} --out data,v2", "--out data,v2"),
    ("vqnat prepare --data {text} --out " + "n" * 300, "--out"),
    (PREPARE + "--data {text} --tokenizer words", "--tokenizer"),
]
DAMAGED = ("emptyidx", "garbageidx", "cutidx", "emptybin", "cutbin", "foreignbin")
DICTIONARIES = ("empty", "garbage", "textcounts", "nocounts", "twice", "latin1", "no")
BINARISED = [
    *((DISTILL + f"{{{how}_train}}", f"{{{how}_train}}") for how in DAMAGED),
    *((DISTILL + f"{{{how}_train_de}}", f"{{{how}_train_de}}") for how in DAMAGED),
    *((DISTILL + f"{{{how}_dict}}", "dict.de.txt") for how in DICTIONARIES),
    *((f"worker {{{how}_train}}" + TRAIN, f"{{{how}_train}}") for how in DAMAGED),
    *((f"worker {{{how}_train_de}}" + TRAIN, f"{{{how}_train_de}}") for how in ("cutbin", "foreignbin")),
    *((f"worker {{{how}_dict}}" + TRAIN, "dict.de.txt") for how in DICTIONARIES),
    *((f"vqnat generate {{{how}_test}}" + DECODE, f"{{{how}_test}}") for how in DAMAGED),
    *(
        (f"fairseq-generate {{{how}_test}}" + DECODE, f"{{{how}_test}}")
        for how in ("garbageidx", "foreignbin")
    ),
    *((f"fairseq-validate {{{how}_valid}}" + DECODE, f"{{{how}_valid}}") for how in DAMAGED),
    *((f"vqnat benchmark {{{how}_test}}" + SYSTEM, f"{{{how}_test}}") for how in DAMAGED),
    *((f"vqnat latents {STUDENT}{{{how}_test}}", f"{{{how}_test}}") for how in DAMAGED),
    *((f"vqnat diagnose {STUDENT}{{{how}_test}}", f"{{{how}_test}}") for how in ("foreignbin", "cutbin")),
    *(
        (f"vqnat inspect {STUDENT}{{{how}_train}}", f"{{{how}_train}}")
        for how in ("foreignbin", "garbageidx")
    ),
    *((f"vqnat latents {STUDENT}{{{how}_dict}}", "dict.de.txt") for how in DICTIONARIES),
    *((f"vqnat generate {{{how}_dict}}" + DECODE, "dict.de.txt") for how in ("garbage", "no")),
    *((f"vqnat benchmark {{{how}_dict}}" + SYSTEM, "dict.de.txt") for how in ("garbage", "no")),
    *(
        (f"vqnat generate {{{how}_pipeline}} --input {{five.txt}}" + DECODE, "text.json")
        for how in ("list", "number", "keys", "format", "types", "tokenizer", "model")
    ),
    (f"vqnat latents {STUDENT}{{types_pipeline}}", "text.json"),
    (f"vqnat inspect {STUDENT}{{list_pipeline}}", "text.json"),
    ("vqnat export {student_pt} --out out --data {types_pipeline}", "text.json"),
    ("vqnat export {student_pt} --out out --data {cutbin_valid}", "{cutbin_valid}"),
    ("vqnat export {student_pt} --out out --data {foreignbin_valid}", "{foreignbin_valid}"),
    ("vqnat export {student_pt} --out out --data {foreign_data}", "{foreign_data}"),
    (f"vqnat latents {STUDENT}{{foreign_data}}", "{foreign_data}"),
    (f"vqnat diagnose {STUDENT}{{foreign_data}}", "{foreign_data}"),
    ("vqnat benchmark {foreign_data}" + SYSTEM, "{foreign_data}"),
    ("vqnat generate {foreign_data}" + DECODE, "{foreign_data}"),
    (DISTILL + "{foreign_data}", "{foreign_data}"),
    (DISTILL + "{no_data}", "{no_data}"),
    (DISTILL + "{five.txt}", "{five.txt}"),
    (DISTILL + "missing", "--data missing"),
    (DISTILL + "{data} --source-lang fr --target-lang de", "--source-lang fr"),
    (DISTILL + "{data} --source-lang en --target-lang en", "--target-lang en"),
    (DISTILL + "{data} --lenpen=nan", "--lenpen"),
    (DISTILL + "{data} --user-dir missing", "--user-dir missing"),
    (DISTILL + "{data} --distributed-rank 1", "--distributed-world-size"),
    (DISTILL + "{data} --beam 100000", "--beam 100000"),
    ("vqnat distill --teacher {teacher_pt} --cpu --data {data} --out {five.txt}", "{five.txt}"),
    ("vqnat distill --teacher {teacher_pt} --cpu --data {data} --out {text}", "{text}"),
    ("vqnat distill --teacher '' --cpu --data {data} --out out", "--teacher"),
    ("vqnat distill --teacher {teacher_pt}: --cpu --data {no_data} --out out", "{no_data}"),
    ("worker {no_data}" + TRAIN, "{no_data}"),
    ("worker {five.txt}" + TRAIN, "{five.txt}"),
    ("worker missing" + TRAIN, "missing"),
    ("worker ''" + TRAIN, "DATA"),
    ("worker {data}" + TRAIN + " -s en -t en", ("--target-lang en", "en-en")),
    ("worker {data}" + TRAIN + " -s en -t fr", "fr"),
    ("worker {data}" + TRAIN + " --train-subset nosuch", "nosuch"),
    ("worker {data}" + TRAIN.replace("--disable-validation", "--valid-subset nosuch"), "nosuch"),
    *(
        (f"{command} --gen-subset {subset}", f"{subset}")
        for subset in ("nosuch", "../test", "train.en-de")
        for command in (
            "vqnat generate {data}" + DECODE,
            "fairseq-generate {data}" + DECODE,
            f"vqnat latents {STUDENT}{{data}}",
            f"vqnat diagnose {STUDENT}{{data}}",
            f"vqnat inspect {STUDENT}{{data}}",
            "vqnat benchmark {data}" + SYSTEM,
        )
    ),
    ("fairseq-validate {data}" + DECODE + "--valid-subset nosuch", "nosuch"),
]


@cases(PREPARING)
def test_text_is_refused(
    line: str, named: str | tuple[str, ...], warm: Warm, tmp_path: Path, things: Things
) -> None:
    assert_refused(warm, tmp_path, line, named, things)


@cases(BINARISED)
def test_data_are_refused(
    line: str, named: str | tuple[str, ...], warm: Warm, tmp_path: Path, things: Things
) -> None:
    assert_refused(warm, tmp_path, line, named, things)
