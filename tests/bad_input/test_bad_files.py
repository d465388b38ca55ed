"""Files of JSON, YAML, arrays, graphs and images, addresses, names, and places to write to."""

from pathlib import Path

from malformed import Things
from refusals import Warm, assert_refused, cases

TRANSLATE = "vqnat translate {exported} --input {five.txt} --output out.txt "
GENERATE = "vqnat generate --path {student_pt} --cpu --input {five.txt} "
STUDENT = "{student_pt} --cpu "
EVALUATE = "vqnat images evaluate {autoencoder_pt} --cpu --valid-size 8 --out out --data "
ABLATE = (
    "vqnat ablate {grid} --data {data} --out out --ref {five.txt} --distilled {data} --teacher {teacher_pt}"
)
SYSTEM = "vqnat benchmark {data} --cpu --out out --system "
COMPARE = "vqnat compare {data} --cpu --out out --ref {text}/test.de --system "
SCORE = "vqnat score --sys "

SCORES = [
    (SCORE + "{five.txt} --ref {three.txt}", "{three.txt}"),
    (SCORE + "{empty.txt} --ref {empty.txt}", "nothing to score"),
    (SCORE + "{latin1.txt} --ref {three.txt}", "{latin1.txt}"),
    (SCORE + "{garbage.txt} --ref {three.txt}", "{garbage.txt}"),
    (SCORE + "{five.txt} --ref {garbage.txt}", "{garbage.txt}"),
    (SCORE + "{returns.txt} --ref {three.txt}", "{returns.txt}"),
    (SCORE + "{cut.txt} --ref {three.txt}", "{cut.txt}"),
    (SCORE + "{twice.txt} --ref {three.txt}", "{twice.txt}"),
    (SCORE + "{five.txt} --ref {five.txt} {three.txt}", "{three.txt}"),
    (SCORE + "missing --ref {five.txt}", "--sys missing"),
    (SCORE + "{five.txt} --ref missing", "--ref missing"),
    (SCORE + "{five.txt} --ref {no_data}", "--ref {no_data}"),
    (SCORE + "{five.txt} --ref {five.txt} --tokenize words", "--tokenize words"),
    (SCORE + "{five.txt} --ref {five.txt} -t no-such-tongue", "no-such-tongue"),
    (SCORE + "{five.txt} --ref {five.txt} --out {no_data}", "{no_data}"),
    (SCORE + "{five.txt} --ref {five.txt} --out {five.txt}/x.json", "{five.txt}"),
    (COMPARE + "s {student_pt} --tokenize words", "--tokenize words"),
    (COMPARE.replace("{text}/test.de", "{three.txt}") + "s {student_pt}", "--ref"),
    (COMPARE + "s {student_pt} --train-log a=missing.log --batch-size 0", "--batch-size 0"),
    (COMPARE + "s {student_pt} --train-log a={garbage.txt}", "{garbage.txt}"),
    (COMPARE + "s {student_pt} --train-log a={list.json}", "{list.json}"),
    (COMPARE + "s {student_pt} --train-log a={deep.json}", "{deep.json}"),
    (COMPARE + "s {student_pt} --train-log nothing", "--train-log nothing"),
    (COMPARE + "s {student_pt} --baseline other", "--baseline other"),
]
SYSTEMS = [
    (SYSTEM + declared, named)
    for declared, named in (
        ("s", "--system s"),
        ("s ''", "--system"),
        ("'' {student_pt}", "--system"),
        ("s missing", "missing"),
        ("s {no_data}", "{no_data}"),
        ("s {student_pt} beam", "'beam'"),
        ("s {student_pt} beam=0", "beam"),
        ("s {student_pt} beam=-1", "beam"),
        ("s {student_pt} beam=nan", "beam"),
        ("s {student_pt} beam=1.5", "beam"),
        ("s {student_pt} beam=100000", "beam"),
        ("s {student_pt} beam={twenty}", "beam"),
        ("s {student_pt} beam=[1]", "beam"),
        ("s {student_pt} beam=4 beam=5", "beam"),
        ("s {student_pt} lenpen=nan", "lenpen"),
        ("s {student_pt} lenpen=1e999", "lenpen"),
        ("s {student_pt} lenpen=-inf", "lenpen"),
        ("s {student_pt} lenpen=much", "lenpen"),
        ("s {student_pt} max_len_a=-1", "max_len_a"),
        ("s {student_pt} max_len_a=1e300", "max_len_a"),
        ("s {student_pt} max_len_b=-1", "max_len_b"),
        ("s {student_pt} max_len_b={twenty}", "max_len_b"),
        ("s {student_pt} temperature=0", "temperature"),
        ("s {student_pt} bogus=1", "bogus"),
        ("s {student_pt} constraints=ordered", "constraints"),
        ("s {student_pt} rescore_with=missing", "missing"),
        ("s {student_pt} rescore_with={student_pt}", "rescore-with"),
        ("s {exported} beam=100000", "beam"),
        ("s {exported} lenpen=nan", "lenpen"),
        ("s {exported} rescore=True", "--rescore"),
        ("s {exported} rescore=1", "rescore"),
        ("s {exported} max_len_b={twenty}", "max-len-b"),
        ("s {exported} bogus=1", "bogus"),
        ("s {exported}:{exported}", "{exported}"),
        ("s {bad_config}", "config.json"),
        ("s {cut_graph}", "step.onnx"),
        ("s {student_pt} --system s {teacher_pt}", "--system"),
        ("s {student_pt} --profile", "--profile"),
        ("s {student_pt} --fp16 --bf16", "--fp16"),
        ("s {student_pt} --batch-sizes 1 1", "--batch-sizes"),
        ("s {student_pt} --sentences {twenty}", "--sentences"),
        ("s {student_pt} --warmup {twenty}", "--warmup"),
        ("s {student_pt} --batch-sizes {twenty}", "--batch-sizes"),
        ("s {student_pt} -s en -t en", ("--target-lang en", "en-en")),
        ("s {student_pt} -s fr -t de", "fr"),
        ("n" * 300 + " {student_pt}", "--system"),
    )
] + [
    (SYSTEM.replace("out", "{five.txt}") + "s {student_pt}", "{five.txt}"),
    ("vqnat benchmark --convert {student_pt} --out out --system s {student_pt}", "--convert"),
    ("vqnat benchmark --convert {teacher_pt} --out out --fp16", "leave --fp16 out"),
    ("vqnat benchmark --convert {teacher_pt} --out out --threads 2", "leave --threads out"),
    ("vqnat benchmark {data} --out out --system s {student_pt} --precision fp32", "--precision fp32: is for"),
    ("vqnat benchmark --convert {teacher_pt} --out {five.txt}", "{five.txt}"),
    ("vqnat benchmark --convert {teacher_pt} --out {text}", "{text}"),
    ("vqnat benchmark --convert {teacher_pt} --out out --data-bin x", "--data-bin"),
    ("vqnat benchmark {foreign_data} --convert {teacher_pt} --out out", "{foreign_data}"),
    ("vqnat benchmark {no_data} --convert {teacher_pt} --out out", "{no_data}"),
]
RUNTIME = [
    (f"vqnat translate {{{model}}} --input {{five.txt}} --output out.txt", named)
    for model, named in (
        ("no_data", "{no_data}"),
        ("bad_config", "config.json"),
        ("list_config", "config.json"),
        ("deep_config", "config.json"),
        ("empty_config", "config.json"),
        ("cut_graph", "step.onnx"),
        ("no_graph", "writer.onnx"),
        ("foreign_graph", "{foreign_graph}"),
        ("foreign_dictionary", "{foreign_dictionary}"),
        ("text_sizes", "config.json"),
        ("huge_sizes", "{huge_sizes}"),
        ("folder_graph", "step.onnx"),
        ("later_format", "format"),
    )
] + [
    ("vqnat translate {five.txt}", "{five.txt}"),
    ("vqnat translate missing", "missing"),
    ("vqnat serve {no_data} --port 0", "{no_data}"),
    ("vqnat serve {bad_config} --port 0", "config.json"),
    ("vqnat serve {exported} --host no.such.host.invalid --port 0", "--host no.such.host.invalid"),
    ("vqnat serve {exported} --host '' --port 65536", "--port 65536"),
    ("vqnat serve {exported} --host ü.example --port 0", "--host"),
    ("vqnat serve {exported} --host " + "a" * 300 + " --port 0", "--host"),
    ("vqnat serve {exported} --host 1.2.3.4 --port 0", "--host 1.2.3.4"),
    ("vqnat serve {exported} --queue 1", "--queue 1"),
    (TRANSLATE + "--candidates 100000", "--candidates 100000"),
    (TRANSLATE + "--n-best 2", "--n-best 2"),
    (TRANSLATE + "--rescore", "--rescore"),
    (TRANSLATE + "--min-len 9 --max-len-b 3", "--min-len 9"),
    (TRANSLATE + "--max-len-a 1e300", "--max-len-a"),
    (TRANSLATE + "--max-len-b {twenty}", "--max-len-b"),
    (TRANSLATE + "--jobs {twenty}", "--jobs"),
    (TRANSLATE + "--jobs 100000000", "--jobs"),
    (TRANSLATE + "--threads 1000000000", "--threads"),
    (TRANSLATE + "--output {no_data}", "{no_data}"),
    (TRANSLATE + "--output {five.txt}/x", "{five.txt}"),
    (TRANSLATE + "--input missing", "missing"),
    (TRANSLATE + "--input {latin1.txt}", "{latin1.txt}"),
    (TRANSLATE + "--input {returns.txt}", "{returns.txt}"),
    (TRANSLATE + "--input {garbage.txt}", "{garbage.txt}"),
    (TRANSLATE + "--input {no_data}", "{no_data}"),
    (GENERATE + "--input {latin1.txt} --output out.txt", "{latin1.txt}"),
    (GENERATE + "--input {garbage.txt} --output out.txt", "{garbage.txt}"),
    (GENERATE + "--output {no_data}", "{no_data}"),
    (GENERATE + "--output {five.txt}/x", "{five.txt}"),
    ("vqnat generate --output out.txt", "--output out.txt"),
    ("vqnat export {student_pt} --out {five.txt}", "{five.txt}"),
    ("vqnat export {student_pt} --out {text}", "{text}"),
    ("vqnat export {student_pt} --out {five.txt}/x", "{five.txt}"),
    ("vqnat export {student_pt}:{student_pt} --out out", "checkpoint"),
    ("vqnat export {student_pt} --out out --source-lang de --target-lang en", "not from or to de"),
    ("vqnat export {student_pt} --out out --data {no_data}", "{no_data}"),
    ("vqnat export {no_data} --out out", "{no_data}"),
    ("vqnat export {student_pt} --out out --precision int4", "--precision"),
]
ANALYSIS = [
    (f"vqnat latents {STUDENT} --out {{no_data}}", "{no_data}"),
    (f"vqnat latents {STUDENT} --out {{five.txt}}/x.json", "{five.txt}"),
    (f"vqnat latents {STUDENT} --data {{no_data}}", "{no_data}"),
    (f"vqnat diagnose {STUDENT} --out {{five.txt}}", "{five.txt}"),
    (f"vqnat diagnose {STUDENT} --ref {{three.txt}} --out out", "{three.txt}"),
    (f"vqnat diagnose {STUDENT} --ref {{latin1.txt}} --out out", "{latin1.txt}"),
    (f"vqnat diagnose {STUDENT} --ref {{garbage.txt}} --out out", "{garbage.txt}"),
    (f"vqnat diagnose {STUDENT} --tokenize words --out out", "--tokenize words"),
    (f"vqnat diagnose {STUDENT} --beam 100000 --out out", "--beam 100000"),
    (f"vqnat diagnose {STUDENT} --seed {{twenty}} --out out", "--seed"),
    (f"vqnat inspect {STUDENT} --out {{five.txt}}", "{five.txt}"),
    (f"vqnat inspect {STUDENT} --seed -1 --out out", "--seed"),
    ("vqnat average --inputs {no_data} --num-epoch-checkpoints 2 --output out.pt", "{no_data}"),
    ("vqnat average --inputs {no_data} --output out.pt", "{no_data}"),
    ("vqnat average --inputs {student_pt} --num-epoch-checkpoints 2 --output out.pt", "--inputs"),
    ("vqnat average --inputs {student_pt} {teacher_pt} --output out.pt", "{teacher_pt}"),
    ("vqnat average --inputs {student_pt} --output {no_data}", "{no_data}"),
    ("vqnat average --inputs {student_pt} --output {five.txt}/x.pt", "{five.txt}"),
    ("vqnat average --inputs {nohistory_pt} {nohistory_pt} --output out.pt", "{nohistory_pt}"),
    ("vqnat average --inputs {oddhistory_pt} {oddhistory_pt} --output out.pt", "{oddhistory_pt}"),
]
GRIDS = [
    *(
        (ABLATE.replace("{grid}", f"{{{name}}}"), f"{{{name}}}")
        for name in (
            "garbage.txt", "empty.txt", "five.txt", "list.json", "number.json", "deep.json", "bomb.yaml",
            "quote.yaml", "none.yaml", "norows.yaml", "seeds.yaml", "seedtext.yaml", "bigseed.yaml",
            "rows.yaml",
            "title.yaml", "measure.yaml", "unknown.yaml", "path.yaml", "deep.yaml", "date.yaml", "tag.yaml",
        )
    ),
    (ABLATE.replace("{grid}", "missing"), "missing"),
    (ABLATE.replace("{grid}", "{no_data}"), "{no_data}"),
    (ABLATE.replace("{grid}", "{good.yaml}").replace("--teacher {teacher_pt}", ""), "--teacher"),
    (ABLATE.replace("{grid}", "{good.yaml}").replace("--out out", "--out {five.txt}"), "{five.txt}"),
    (ABLATE.replace("{grid}", "{good.yaml}") + " --jobs 0", "--jobs 0"),
    (ABLATE.replace("{grid}", "{good.yaml}") + " --beam {twenty}", "--beam"),
    (ABLATE.replace("{grid}", "{images.yaml}"), "--distilled"),
    ("vqnat stage --out out -- true", "name"),
    ("vqnat stage a/b --out out -- true", "a/b"),
    ("vqnat stage '' --out out -- true", "name"),
    ("vqnat stage ../a --out out -- true", "../a"),
    ("vqnat stage a --out out", "COMMAND"),
    ("vqnat stage a --out {five.txt} -- true", "{five.txt}"),
    ("vqnat stage --redo a --out out", "'a'"),
    ("vqnat stage --redo a --out {bad_stages}", "a.json"),
    ("vqnat stage a --out {bad_stages} -- true", "a.json"),
    ("vqnat stage b --out {bad_stages} -- true", "json"),
]  # fmt: skip
IMAGES = [
    (EVALUATE + "{no_data}", "{no_data}"),
    (EVALUATE + "{text}", "{text}"),
    (EVALUATE + "missing", "--data missing"),
    (EVALUATE + "{images} --temperature nan", "--temperature"),
    (EVALUATE + "{images} --valid-size 0 --gen-subset valid", "--valid-size 0"),
    (EVALUATE + "{images} --valid-size 9999 --gen-subset valid", "--valid-size 9999"),
    (EVALUATE + "{images} --gen-subset nosuch", "--gen-subset"),
    (EVALUATE + "{images} --image-cache {five.txt}", "{five.txt}"),
    (EVALUATE + "{images} --seed {twenty}", "--seed"),
    (EVALUATE + "{images} --prior {prior_pt} --samples 1000000000", "--samples"),
    (EVALUATE + "{images} --train-log a", "--train-log a"),
    (EVALUATE + "{images} --train-log a={garbage.txt}", "{garbage.txt}"),
    (EVALUATE + "{cut_images}", "000.png"),
    (EVALUATE + "{other_size}", "000.png"),
    (EVALUATE + "{other_train} --gen-subset train", "000.png"),
    (EVALUATE + "{bomb_images}", "000.png"),
    (EVALUATE + "{bad_cifar}", "{bad_cifar}"),
    (EVALUATE + "{bad_svhn}", "{bad_svhn}"),
    ("vqnat images evaluate {autoencoder_pt} --cpu --data {images} --out {five.txt}", "{five.txt}"),
    ("vqnat images encode {autoencoder_pt} {no_data} out.npz --cpu", "{no_data}"),
    ("vqnat images encode {autoencoder_pt} {text} out.npz --cpu", "{text}"),
    ("vqnat images encode {autoencoder_pt} {cut_images} out.npz --cpu", "000.png"),
    ("vqnat images encode {autoencoder_pt} {images}/test {no_data} --cpu", "{no_data}"),
    ("vqnat images encode {autoencoder_pt} {images}/test {five.txt}/x.npz --cpu", "{five.txt}"),
    ("vqnat images encode {autoencoder_pt} {not_utf8_images} out.npz --cpu", "{not_utf8_images}"),
    *(
        (f"vqnat images decode {{autoencoder_pt}} {{{codes}}} out --cpu", f"{{{codes}}}")
        for codes in (
            "garbage.txt", "empty.txt", "cut.npz", "nodigest.npz", "listdigest.npz", "textdigest.npz",
            "range.npz",
            "negative.npz", "floats.npz", "names.npz", "outside.npz", "absolute.npz", "objects.npz",
            "shape.npz",
        )
    ),
    ("vqnat images decode {autoencoder_pt} {codes_npz} {five.txt} --cpu", "{five.txt}"),
    ("vqnat images decode {autoencoder_pt} missing out --cpu", "missing"),
]  # fmt: skip


TABLES = (SCORES, SYSTEMS, RUNTIME, ANALYSIS, GRIDS, IMAGES)


@cases(case for table in TABLES for case in table)
def test_it_is_refused(
    line: str, named: str | tuple[str, ...], warm: Warm, tmp_path: Path, things: Things
) -> None:
    assert_refused(warm, tmp_path, line, named, things)
