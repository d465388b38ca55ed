from argparse import Namespace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from distilling import copy_of, ids, options
from fairseq import checkpoint_utils
from fairseq.dataclass.configs import GenerationConfig

from vqnat_plugin.distillation.corpus import ParallelData, open_data
from vqnat_plugin.distillation.settings import Share
from vqnat_plugin.distillation.teacher import Teacher, choose_device, open_teacher
from vqnat_plugin.errors import CheckpointError, DataError, UsageError

CPU = torch.device("cpu")


@pytest.fixture
def data(tiny_corpus: Path) -> ParallelData:
    return open_data(tiny_corpus)


def opened(teachers: list[Path], data: ParallelData, **search: Any) -> Teacher:
    """The teacher of these checkpoints, on the CPU."""
    return open_teacher(options(teacher=":".join(map(str, teachers)), **search), data, CPU)


def changed(checkpoint: Path, to: Path, **task_options: Any) -> Path:
    """A copy of a checkpoint with other task options."""
    state = torch.load(checkpoint)
    for name, value in task_options.items():
        state["cfg"]["task"][name] = value
    torch.save(state, to)
    return to


def one_by_one(checkpoints: list[Path], source: list[list[int]], **search: Any) -> list[list[int]]:
    """What fairseq itself finds for each sentence alone."""
    models, _, task = checkpoint_utils.load_model_ensemble_and_task([str(path) for path in checkpoints])
    generator = task.build_generator(models, GenerationConfig(**search))
    found = []
    for sentence in source:
        net_input = {"src_tokens": torch.tensor([sentence]), "src_lengths": torch.tensor([len(sentence)])}
        [candidates] = task.inference_step(generator, models, {"net_input": net_input})
        found.append(candidates[0]["tokens"].tolist()[:-1])
    return found


def test_more_words_to_sample_from_than_there_are(data: ParallelData, tiny_teacher: Path) -> None:
    teacher = opened([tiny_teacher], data, sampling=True, sampling_topk=100_000, max_len_a=0, max_len_b=5)
    [found] = teacher.translate([torch.tensor(ids(data.folder, "en")[0])])
    assert len(found) <= 5


@pytest.mark.parametrize(
    "search", [{"beam": 4, "max_len_a": 0.5, "max_len_b": 2}, {"beam": 1, "lenpen": 0.5}]
)
def test_a_batch_gives_what_fairseq_gives_one_by_one(
    data: ParallelData, tiny_teacher: Path, search: dict[str, Any]
) -> None:
    source = [sentence for sentence in ids(data.folder, "en") if len(sentence) == 8]
    assert len(source) > 3
    teacher = opened([tiny_teacher], data, **{"max_len_a": 0, "max_len_b": 200} | search)
    outputs = teacher.translate([torch.tensor(sentence) for sentence in source])
    assert [output.tolist() for output in outputs] == one_by_one([tiny_teacher], source, **search)
    assert len({tuple(output) for output in outputs}) == len(source)


def test_ensemble(data: ParallelData, tiny_teacher: Path, tmp_path: Path) -> None:
    other = tmp_path / "other.pt"
    state = torch.load(tiny_teacher)
    generator = torch.Generator().manual_seed(3)
    for weight in state["model"].values():
        weight += (
            0.2 * weight.std() * torch.randn(weight.shape, generator=generator) if weight.numel() > 1 else 0
        )
    torch.save(state, other)
    source = [sentence for sentence in ids(data.folder, "en") if len(sentence) == 8]
    tensors = [torch.tensor(sentence) for sentence in source]
    search = {"max_len_a": 0, "max_len_b": 200}
    together = opened([tiny_teacher, other], data, **search).translate(tensors)
    assert [output.tolist() for output in together] == one_by_one([tiny_teacher, other], source, beam=4)
    alone = opened([tiny_teacher], data, **search).translate(tensors)
    assert any(a.tolist() != b.tolist() for a, b in zip(alone, together, strict=True))


def test_limit_of_the_source(data: ParallelData, tiny_teacher: Path) -> None:
    assert opened([tiny_teacher], data).max_source_length == 64


def test_bf16(data: ParallelData, tiny_teacher: Path) -> None:
    teacher = opened([tiny_teacher], data, bf16=True)
    assert {parameter.dtype for parameter in teacher.models[0].parameters()} == {torch.bfloat16}
    [output] = teacher.translate([torch.tensor(ids(data.folder, "en")[0])])
    assert output.dtype == np.int32 and len(output)


def test_fp16_needs_a_gpu() -> None:
    with pytest.raises(UsageError, match="--fp16 needs a GPU"):
        choose_device(Share(), cpu=True, precision="fp16")


def test_processes_take_gpus_in_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    devices = [choose_device(Share(local_rank=rank), False, "fp16").index for rank in range(4)]
    assert devices == [0, 1, 0, 1]
    assert choose_device(Share(), cpu=True, precision="fp32") == CPU


@pytest.fixture
def small_memory(
    data: ParallelData, tiny_teacher: Path, monkeypatch: pytest.MonkeyPatch
) -> tuple[Teacher, list[int]]:
    """A teacher on a device for at most 2 sentences, and the sizes of the batches that it met."""
    teacher, sizes = opened([tiny_teacher], data), []
    whole = teacher._translate

    def translate(sources: Any) -> list[np.ndarray]:
        sizes.append(len(sources))
        if len(sources) > 2 or len(sources[0]) > 9:
            raise torch.OutOfMemoryError
        return whole(sources)

    monkeypatch.setattr(teacher, "_translate", translate)
    monkeypatch.setattr(torch.cuda, "empty_cache", lambda: None)
    return teacher, sizes


def test_batch_too_large_for_the_gpu_is_cut(
    data: ParallelData, tiny_teacher: Path, small_memory: tuple[Teacher, list[int]]
) -> None:
    sources = [torch.tensor(sentence) for sentence in ids(data.folder, "en") if len(sentence) == 8]
    teacher, sizes = small_memory
    whole = opened([tiny_teacher], data).translate(sources)
    cut = teacher.translate(sources)
    assert [output.tolist() for output in cut] == [output.tolist() for output in whole]
    assert sizes[0] == len(sources) and sizes.count(2) + sizes.count(1) > 1


def test_sentence_too_large_for_the_gpu_is_an_error(small_memory: tuple[Teacher, list[int]]) -> None:
    with pytest.raises(DataError, match="a source of 10 tokens alone does not fit"):
        small_memory[0].translate([torch.full((10,), 5)])


def test_search_without_a_result_is_explained(data: ParallelData, tiny_teacher: Path) -> None:
    teacher = opened([tiny_teacher], data)
    with torch.no_grad():
        teacher.models[0].decoder.layers[0].fc1.weight.fill_(float("nan"))
    with pytest.raises(DataError, match=r"without a translation of finite score.*--bf16"):
        teacher.translate([torch.tensor(ids(data.folder, "en")[0])])


def test_teacher_of_another_pair(data: ParallelData, tiny_teacher: Path, tmp_path: Path) -> None:
    other = changed(tiny_teacher, tmp_path / "other.pt", source_lang="de", target_lang="en")
    with pytest.raises(DataError, match=r"translates de-en, but .* read as en-de"):
        opened([other], data)


def test_teacher_that_does_not_say_its_pair(data: ParallelData, tiny_teacher: Path, tmp_path: Path) -> None:
    assert torch.load(tiny_teacher)["cfg"]["task"]["source_lang"] is None
    swapped = open_data(data.folder, "de", "en")
    with pytest.raises(DataError, match=r"translates en-de, but .* read as de-en"):
        opened([tiny_teacher], swapped)
    # Where the folder of its training is gone, the user is to be believed.
    other = changed(tiny_teacher, tmp_path / "other.pt", data=str(tmp_path / "gone"))
    assert opened([other], swapped).task.cfg.source_lang == "de"


@pytest.mark.parametrize("replace", [("W3", "V3"), ("w", "v")])
def test_teacher_of_another_dictionary_of_the_same_size(
    tiny_corpus: Path, tiny_teacher: Path, tmp_path: Path, replace: tuple[str, str]
) -> None:
    folder = copy_of(tiny_corpus, tmp_path / "data")
    text = (folder / "dict.de.txt").read_text()
    (folder / "dict.de.txt").write_text(text.replace(*replace))
    with pytest.raises(DataError, match=r"was trained with .*dict\.de\.txt, which has other symbols than"):
        opened([tiny_teacher], open_data(folder))


def test_teacher_of_a_larger_dictionary(tiny_corpus: Path, tiny_teacher: Path, tmp_path: Path) -> None:
    folder = copy_of(tiny_corpus, tmp_path / "data")
    for language in ("en", "de"):
        lines = (folder / f"dict.{language}.txt").read_text().splitlines()
        (folder / f"dict.{language}.txt").write_text("\n".join(lines[:-3]) + "\n")
    other = changed(tiny_teacher, tmp_path / "other.pt", data=str(tmp_path / "gone"))
    with pytest.raises(DataError, match=r"it knows 48 symbols, but a dictionary there has 45"):
        opened([other], open_data(folder))


def test_old_checkpoint_with_its_options_in_a_namespace(
    data: ParallelData, tiny_teacher: Path, tmp_path: Path
) -> None:
    state = torch.load(tiny_teacher)
    options = state["cfg"]["model"]
    assert isinstance(options, Namespace) and options.arch == "transformer"
    torch.save(state | {"args": options, "cfg": None}, tmp_path / "old.pt")
    source = [torch.tensor(ids(data.folder, "en")[0])]
    [old] = opened([tmp_path / "old.pt"], data).translate(source)
    [new] = opened([tiny_teacher], data).translate(source)
    assert old.tolist() == new.tolist()


def test_teacher_of_an_unknown_task(data: ParallelData, tiny_teacher: Path, tmp_path: Path) -> None:
    other = changed(tiny_teacher, tmp_path / "other.pt", _name="no_such_task")
    with pytest.raises(DataError, match=r"other\.pt: .*--task no_such_task.*--user-dir"):
        opened([other], data)


def test_teacher_that_measured_bleu_in_training(
    data: ParallelData, tiny_teacher: Path, tmp_path: Path
) -> None:
    other = changed(
        tiny_teacher, tmp_path / "o.pt", eval_bleu=True, eval_bleu_detok="needs-a-package-not-here"
    )
    assert opened([other], data).max_source_length == 64


def test_weights_of_another_shape(data: ParallelData, tiny_teacher: Path, tmp_path: Path) -> None:
    state = torch.load(tiny_teacher)
    state["model"]["encoder.layers.0.fc1.bias"] = torch.zeros(3)
    torch.save(state, tmp_path / "other.pt")
    with pytest.raises(DataError, match=r"other\.pt: cannot be rebuilt .*size mismatch"):
        opened([tmp_path / "other.pt"], data)


def test_files_that_are_no_teachers(data: ParallelData, tmp_path: Path) -> None:
    (tmp_path / "text.pt").write_text("hello")
    torch.save({"weights": torch.zeros(2)}, tmp_path / "weights.pt")
    for name in ("text.pt", "weights.pt"):
        with pytest.raises(CheckpointError, match=rf"{name}: .*not a checkpoint"):
            opened([tmp_path / name], data)


def test_teacher_without_options(data: ParallelData, tiny_teacher: Path, tmp_path: Path) -> None:
    torch.save(torch.load(tiny_teacher) | {"cfg": None}, tmp_path / "other.pt")
    with pytest.raises(DataError, match="not a checkpoint of fairseq-train"):
        opened([tmp_path / "other.pt"], data)
