import os
from pathlib import Path
from typing import Any, Literal

import pytest
import torch
from fairseq import options
from fairseq_cli import generate
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from tiny import train_student
from torch import Tensor

from vqnat_plugin.averaging import average_checkpoints, last_checkpoints
from vqnat_plugin.bottleneck import EMVectorQuantizer
from vqnat_plugin.commands.main import main
from vqnat_plugin.errors import CheckpointError, DataError
from vqnat_plugin.saving import save


def write(path: Path, model: dict[str, Tensor], updates: int = 1, **others: Any) -> Path:
    """A checkpoint with the parts that fairseq asks for."""
    history = {"num_updates": updates, "optimizer_name": "FairseqAdam", "lr_scheduler_state": {}}
    state = {
        "cfg": {"task": {"_name": "some"}, "model": {"_name": "some"}},
        "model": model,
        "optimizer_history": [history],
        "extra_state": {"train_iterator": {"epoch": 1}},
        "last_optimizer_state": {"state": torch.zeros(1000)},
    }
    torch.save({**state, **others}, path)
    return path


def average(tmp_path: Path, *models: dict[str, Tensor]) -> dict[str, Tensor]:
    paths = [write(tmp_path / f"{n}.pt", model, updates=n) for n, model in enumerate(models)]
    return average_checkpoints(paths)["model"]


def test_floats_are_averaged_and_the_rest_is_the_newest(tmp_path: Path) -> None:
    models = [
        {"weight": torch.tensor([n, 10.0 * n]), "half": torch.tensor([n], dtype=torch.float16), "steps": n}
        for n in (1.0, 2.0, 6.0)
    ]
    for model in models:
        model["steps"] = torch.tensor(int(model["steps"]))
    # The newest is in the middle.
    paths = [
        write(tmp_path / f"{updates}.pt", model, updates, task_state={"mark": updates})
        for model, updates in zip(models, (100, 1000, 900), strict=True)
    ]
    state = average_checkpoints(paths)
    assert state["model"]["weight"].tolist() == [3.0, 30.0]
    assert state["model"]["half"].dtype == torch.float16 and state["model"]["half"].item() == 3.0
    assert state["model"]["steps"].item() == 2
    assert state["task_state"] == {"mark": 1000}
    assert state["cfg"] == {"task": {"_name": "some"}, "model": {"_name": "some"}}
    assert state["last_optimizer_state"] is None


def test_one_checkpoint_averages_to_itself(tmp_path: Path) -> None:
    model = {"weight": torch.randn(3, 4, generator=torch.Generator().manual_seed(1)), "n": torch.tensor(3)}
    result = average(tmp_path, model)
    assert all(torch.equal(result[name], model[name]) for name in model)


def test_tied_weights_stay_tied_and_the_file_small(tmp_path: Path) -> None:
    paths = []
    for n in (1.0, 3.0):
        weight = torch.full((1000, 100), n)
        paths.append(write(tmp_path / f"{n}.pt", {"embedding": weight, "output": weight}))
    out = tmp_path / "new" / "average.pt"
    save(average_checkpoints(paths), out)
    model = torch.load(out, weights_only=True)["model"]
    assert model["embedding"].data_ptr() == model["output"].data_ptr()
    assert model["output"][0, 0] == 2.0
    assert out.stat().st_size < 1.5 * paths[0].stat().st_size
    assert os.listdir(out.parent) == ["average.pt"]


def trained(blocks: int, seed: int, steps: int) -> list[dict[str, Tensor]]:
    """States of a quantiser after each of some M steps of one run."""
    torch.manual_seed(seed)
    quantizer = EMVectorQuantizer(8, 6, blocks=blocks, decay=0.5, revival=False)
    quantizer.initialize_codebook(torch.randn(100, 6))
    states = []
    for _ in range(steps):
        quantizer(torch.randn(50, 6))
        quantizer.update_codebook()
        states.append({f"quantizer.{name}": value.clone() for name, value in quantizer.state_dict().items()})
    return states


@settings(max_examples=8, phases=[Phase.explicit, Phase.generate])
@given(seed=st.integers(0, 99), steps=st.integers(1, 4), blocks=st.sampled_from([1, 2, 3]))
def test_codes_are_the_m_step_on_averaged_statistics(
    tmp_path_factory: pytest.TempPathFactory, seed: int, steps: int, blocks: int
) -> None:
    states = trained(blocks, seed, steps)
    result = average(tmp_path_factory.mktemp("average"), *states)
    counts = torch.stack([state["quantizer.counts"] for state in states]).mean(0)
    sums = torch.stack([state["quantizer.sums"] for state in states]).mean(0)
    torch.testing.assert_close(result["quantizer.counts"], counts)
    torch.testing.assert_close(result["quantizer.sums"], sums)
    for block in range(blocks):
        columns = slice(block * 6 // blocks, (block + 1) * 6 // blocks)
        expected = sums[:, columns] / counts[block, :, None]
        torch.testing.assert_close(result["quantizer.codebook"][:, columns], expected, rtol=1e-3, atol=1e-3)
    loaded = EMVectorQuantizer(8, 6, blocks=blocks)
    loaded.load_state_dict({name.removeprefix("quantizer."): value for name, value in result.items()})
    assert loaded.initialized and loaded.codebook.dtype == torch.float32


def codebook(codes: list[list[float]], counts: list[float], started: int = 1) -> dict[str, Tensor]:
    rows = torch.tensor(codes)
    return {
        "codebook": rows,
        "counts": torch.tensor([counts]),
        "sums": rows * torch.tensor(counts)[:, None],
        "started": torch.tensor(started),
    }


def test_a_code_that_was_stale_and_replaced_stays_at_its_new_place(tmp_path: Path) -> None:
    before = codebook([[0.0, 0.0], [100.0, 100.0]], [10.0, 0.01])
    after = codebook([[2.0, 2.0], [5.0, 5.0]], [10.0, 10.0])
    result = average(tmp_path, before, after)["codebook"]
    torch.testing.assert_close(result, torch.tensor([[1.0, 1.0], [5.0, 5.0]]), rtol=0, atol=0.1)


def test_a_code_without_counts_is_that_of_the_newest(tmp_path: Path) -> None:
    result = average(tmp_path, codebook([[1.0], [3.0]], [0.0, 1.0]), codebook([[7.0], [5.0]], [0.0, 1.0]))
    assert result["codebook"].tolist() == [[7.0], [4.0]]


@pytest.mark.parametrize("early", [0, 1])
def test_a_checkpoint_from_before_the_start_of_the_codebook_is_refused(tmp_path: Path, early: int) -> None:
    models = [codebook([[1.0]], [1.0], started=int(n != early)) for n in (0, 1)]
    with pytest.raises(DataError, match=rf"{early}\.pt: from before the codebook's start; leave it out"):
        average(tmp_path, *models)


def test_other_models_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"1\.pt: not of the same model as .*'w' is \(3,\), there \(2,\)"):
        average(tmp_path, {"w": torch.zeros(2)}, {"w": torch.zeros(3)})
    with pytest.raises(DataError, match=r"'v' is missing, there \(2,\)"):
        average(tmp_path, {"w": torch.zeros(2), "v": torch.zeros(2)}, {"w": torch.zeros(2)})
    with pytest.raises(DataError, match="name at least one"):
        average_checkpoints([])


def test_several_trainings_are_refused(tmp_path: Path) -> None:
    torch.manual_seed(1)
    codes = torch.randn(40, 4)
    models = [codebook(each.tolist(), [1.0] * 40) for each in (codes, codes + 0.1, torch.randn(40, 4))]
    average(tmp_path, *models[:2])
    with pytest.raises(DataError, match=r"2\.pt: not of the same training as .*0\.pt: its codes are others"):
        average(tmp_path, *models)


class Payload:
    def __reduce__(self) -> tuple[Any, tuple[str]]:
        return os.system, ("true",)


def test_unreadable_files_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"missing\.pt: No such file"):
        average_checkpoints([tmp_path / "missing.pt"])
    torch.save({"weights": 1}, tmp_path / "other.pt")
    with pytest.raises(CheckpointError, match=r"other\.pt: .*not a checkpoint"):
        average_checkpoints([tmp_path / "other.pt"])
    torch.save({"model": {}, "x": Payload()}, tmp_path / "code.pt")
    with pytest.raises(CheckpointError, match=r"code\.pt: refused"):
        average_checkpoints([tmp_path / "code.pt"])


@pytest.mark.parametrize(
    "damage",
    [
        {"cfg": "a text"},
        {"cfg": None},
        {"model": None},
        {"model": {"weight": [1.0]}},
        {"optimizer_history": []},
        {"optimizer_history": [{"optimizer_name": "FairseqAdam"}]},
    ],
    ids=str,
)
def test_checkpoints_that_lack_something_are_refused(tmp_path: Path, damage: dict[str, Any]) -> None:
    path = write(tmp_path / "odd.pt", **{"model": {"weight": torch.zeros(2)}, **damage})
    with pytest.raises(CheckpointError, match=r"odd\.pt: .*not a checkpoint"):
        average_checkpoints([path])


@pytest.mark.parametrize(
    ("names", "count", "kind", "expected"),
    [
        (
            ["checkpoint_1_900", "checkpoint_2_1000", "checkpoint_1_50"],
            2,
            "updates",
            ["checkpoint_2_1000", "checkpoint_1_900"],
        ),
        (["checkpoint9", "checkpoint10", "checkpoint_10_500"], 2, "epochs", ["checkpoint10", "checkpoint9"]),
        (
            ["checkpoint_1_5", "checkpoint_1_6", "checkpoint1", "checkpoint2"],
            1,
            "updates",
            ["checkpoint_1_6"],
        ),
        (["checkpoint_1_5", "checkpoint_1_6", "checkpoint1", "checkpoint2"], 1, "epochs", ["checkpoint2"]),
    ],
)
def test_the_last_ones_are_found(
    tmp_path: Path, names: list[str], count: int, kind: Literal["updates", "epochs"], expected: list[str]
) -> None:
    for name in [*names, "checkpoint_last", "checkpoint_best", "checkpoint.best_bleu_30.1"]:
        (tmp_path / f"{name}.pt").touch()
    assert [path.stem for path in last_checkpoints(tmp_path, count, kind)] == expected


def test_too_few_to_average(tmp_path: Path) -> None:
    (tmp_path / "checkpoint_1_5.pt").touch()
    for kind, flag, count in (("updates", "update", 1), ("epochs", "epoch", 0)):
        message = rf"--num-{flag}-checkpoints 2: .* holds {count} checkpoints of {kind}; train with --"
        with pytest.raises(DataError, match=message):
            last_checkpoints(tmp_path, 2, kind)
    with pytest.raises(DataError, match=r"--inputs .*: no such folder"):
        last_checkpoints(tmp_path / "none", 2, "epochs")


def test_fairseq_generate_loads_the_average(
    tiny_corpus: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "student"
    flags = "--max-update 12 --save-interval-updates 4 --code-revival-until 3"
    train_student(tiny_corpus, folder, *flags.split(" "))
    out = tmp_path / "average.pt"
    words = ["average", "--inputs", str(folder), "--num-update-checkpoints", "2", "--output", str(out)]
    assert main(words) == 0
    assert f"{out}: the average of {folder / 'checkpoint_'}" in capsys.readouterr().out
    model = torch.load(out, weights_only=True)["model"]
    last = [torch.load(path, weights_only=True)["model"] for path in last_checkpoints(folder, 2, "updates")]
    name = "encoder.layers.0.feed_norm.weight"
    torch.testing.assert_close(model[name], (last[0][name] + last[1][name]) / 2)
    assert out.stat().st_size < 0.6 * (folder / "checkpoint_last.pt").stat().st_size

    arguments = (
        f"{tiny_corpus} --path {out} --task translation_vq --beam 2 --cpu --required-batch-size-multiple 1"
    )
    parsed = options.parse_args_and_arch(options.get_generation_parser(), arguments.split())
    capsys.readouterr()
    generate.main(parsed)
    lines = capsys.readouterr().out.splitlines()
    assert sum(line.startswith("H-") for line in lines) == 5


def test_mistakes_on_the_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = write(tmp_path / "a.pt", {"weight": torch.zeros(2)})
    (tmp_path / "broken.pt").write_bytes(file.read_bytes()[:-300])
    other = write(tmp_path / "other.pt", {"weight": torch.zeros(3)})
    for arguments, message in (
        ([tmp_path], "a folder stands alone, with --num-epoch-checkpoints or --num-update-checkpoints"),
        ([tmp_path, file, "--num-epoch-checkpoints", 1], "a folder stands alone"),
        ([file, "--num-epoch-checkpoints", 1], "needs a folder for the last 1"),
        ([tmp_path, "--num-update-checkpoints", 0], "--num-update-checkpoints 0: needs at least 1"),
        ([tmp_path, "--num-epoch-checkpoints", 1, "--num-update-checkpoints", 1], "a folder stands alone"),
        ([tmp_path, "--num-epoch-checkpoints", 1], "--num-epoch-checkpoints 1: "),
        ([tmp_path / "none.pt"], "none.pt: no such file or folder"),
        ([file, tmp_path / "broken.pt"], "broken.pt: truncated, or not a checkpoint"),
        ([file, other], "other.pt: not of the same model as"),
    ):
        out = tmp_path / "x.pt"
        with pytest.raises(SystemExit, match="2"):
            main(["average", "--inputs", *map(str, arguments), "--output", str(out)])
        (line,) = capsys.readouterr().err.splitlines()
        assert line.startswith("vqnat average: error: ") and message in line
        assert not out.exists()
