"""The recipes in the paper's setting: the options of their trainings, and (slow) every stage on a slice."""

import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
from archives import iwslt14, wmt14
from fairseq import options

import vqnat_plugin
from vqnat_plugin.models.options import complete
from vqnat_plugin.models.vq_nat_config import VQNATConfig

assert vqnat_plugin  # importing it registers the model with fairseq

ROOT = Path(__file__).resolve().parents[2]
RECIPES = {"wmt14_en_de": ("en", "de", wmt14), "iwslt14_de_en": ("de", "en", iwslt14)}


def recipe_arrays(folder: Path, name: str, gpus: int) -> dict[str, list[str]]:
    """The option arrays of a recipe on a machine with so many GPUs, without running anything."""
    shutil.copytree(ROOT / "examples", folder / "examples")
    script = folder / "examples" / name / "run.sh"
    text = script.read_text()
    arrays = ("TRAINING", "TEACHER", "STUDENT", "DISTILLATION", "PREPARATION", "URLS")
    show = "".join(f'printf "%s\\0" "{array}=" "${{{array}[@]}}"\n' for array in arrays)
    assert text.count('\npaper_recipe "$@"\n') == 1
    code = f"\npython() {{ echo {gpus}; }}\nSEED=1\nset_options\n{show}"
    script.write_text(text.replace('\npaper_recipe "$@"\n', code))
    shown = subprocess.run(["bash", script], capture_output=True, text=True, timeout=60, check=True).stdout
    result: dict[str, list[str]] = {}
    for word in shown.removesuffix("\0").split("\0"):
        if word.removesuffix("=") in arrays:
            result[word.removesuffix("=")] = current = []
        else:
            current.append(word)
    return result


def parse(arrays: dict[str, list[str]], model: str) -> Any:
    """What fairseq-train makes of a recipe's options."""
    tokens, *others = [word for word in [*arrays["TRAINING"], *arrays[model]] if word != "--batch-tokens"]
    assert tokens.isdigit()
    return options.parse_args_and_arch(options.get_training_parser(), ["data", *others])


@pytest.mark.parametrize("name", RECIPES)
@pytest.mark.parametrize("gpus", [0, 4])
def test_the_setting_is_the_papers(tmp_path: Path, name: str, gpus: int) -> None:
    arrays = recipe_arrays(tmp_path, name, gpus)
    teacher, student = parse(arrays, "TEACHER"), parse(arrays, "STUDENT")
    for model in (teacher, student):
        assert (model.optimizer, model.adam_betas, model.adam_eps) == ("adam", "(0.9,0.997)", 1e-9)
        assert (model.lr_scheduler, model.warmup_updates, model.clip_norm) == ("inverse_sqrt", 4000, 0.0)
        assert (model.fp16, model.amp) == (gpus > 0, gpus == 0)
        assert model.required_batch_size_multiple == 1
        assert [model.source_lang, model.target_lang] == list(RECIPES[name][:2])
    assert student.lr == [1.4e-3]
    student = complete(VQNATConfig, student)
    assert (student.embed_dim, student.ffn_dim, student.attention_heads) == (512, 4096, 4)
    assert student.encoder_layers == student.predictor_layers == student.decoder_layers == 6
    assert (student.codebook_size, student.compress_steps, student.em_samples) == (4096, 3, 10)
    assert (student.em_decay, student.em_temperature, student.bottleneck) == (0.999, 1.0, "em")
    assert student.label_smoothing == 0.0 and student.init_from_teacher is None
    assert (teacher.encoder_embed_dim, teacher.encoder_ffn_embed_dim, teacher.encoder_layers) == (
        512,
        2048,
        6,
    )
    assert teacher.encoder_normalize_before and teacher.decoder_normalize_before
    assert teacher.criterion == "label_smoothed_cross_entropy" and teacher.label_smoothing == 0.1
    assert "--workers" in arrays["DISTILLATION"] and ("--fp16" in arrays["DISTILLATION"]) == (gpus > 0)


def test_no_code_is_replaced_while_averaged_checkpoints_are_saved(tmp_path: Path) -> None:
    for name in RECIPES:
        student = parse(recipe_arrays(tmp_path / name, name, gpus=1), "STUDENT")
        averaged = student.keep_interval_updates * student.save_interval_updates
        assert student.unquantized_updates < student.code_revival_until < student.max_update - averaged


def test_smaller_batches_make_up_the_same_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = recipe_arrays(tmp_path / "1", "wmt14_en_de", gpus=1)["TRAINING"]
    monkeypatch.setenv("UPDATE_FREQ", "4")
    parts = recipe_arrays(tmp_path / "2", "wmt14_en_de", gpus=1)["TRAINING"]
    value = [
        [int(words[words.index(name) + 1]) for name in ("--batch-tokens", "--update-freq")]
        for words in (whole, parts)
    ]
    assert value == [[16384, 1], [4096, 4]]


@pytest.mark.parametrize("name", RECIPES)
def test_downloads_are_what_the_corpus_is_made_of(tmp_path: Path, name: str) -> None:
    urls = recipe_arrays(tmp_path, name, gpus=0)["URLS"]
    RECIPES[name][2](tmp_path / "archives")
    assert sorted(url.rpartition("/")[2] for url in urls) == sorted(
        path.name for path in (tmp_path / "archives").iterdir()
    )
    assert all(url.startswith("https://") for url in urls)


@pytest.mark.parametrize("name", RECIPES)
def test_data_has_to_be_named(tmp_path: Path, name: str) -> None:
    done = subprocess.run(
        [ROOT / "examples" / name / "run.sh", "--out", tmp_path / "out", "--check"],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 2
    assert done.stderr.endswith(
        f"needs --data DIR or --download (see {ROOT}/examples/{name}/run.sh --help)\n"
    )
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
@pytest.mark.parametrize("name", RECIPES)
def test_every_stage_runs(tmp_path: Path, name: str) -> None:
    source, target, write = RECIPES[name]
    write(tmp_path / "archives", 700, 20)
    command = [
        ROOT / "examples" / name / "run.sh",
        "--data",
        tmp_path / "archives",
        "--out",
        tmp_path,
        "--check",
    ]
    first = subprocess.run(command, capture_output=True, text=True, timeout=1800, check=False)
    assert first.returncode == 0, first.stdout[-3000:] + first.stderr[-3000:]
    out = tmp_path / "check"
    report = json.loads((out / "report.json").read_text())
    assert len(report["systems"]) == 5
    for system in report["systems"].values():
        assert (
            system["sentences"] == 16
            and system["signature"]
            and system["latency_ms"]["batch_1"]["median"] > 0
        )
    assert report["latents"]["usage"] > 0
    assert {f"train.{source}", f"test.{target}"} <= {path.name for path in (out / "corpus").iterdir()}
    assert re.search(r"average_checkpoints\.py --last 2", "\n".join(report["commands"]))

    # A second run finds everything done.
    again = subprocess.run(command, capture_output=True, text=True, timeout=600, check=False)
    assert again.returncode == 0
    assert "== student: done before" in again.stdout
