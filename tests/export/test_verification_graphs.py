"""Drafts that the exported teacher has checked are its greedy translations, as fairseq decodes them."""

import argparse
import random
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from exporting import every_shape, exported, random_teacher, verified_by_torch
from fairseq.sequence_generator import SequenceGenerator
from tiny import VOCABULARY, sentences, tiny_model

from vqnat_plugin.errors import DataError, UsageError
from vqnat_plugin.generation.latent_generator import LatentGenerator
from vqnat_plugin.generation.rescoring import rescore
from vqnat_plugin.generation.verification import Verifier
from vqnat_plugin.runtime.decoding import Decoding
from vqnat_plugin.runtime.hypotheses import Hypothesis
from vqnat_plugin.runtime.verification import Verified

ROWS = [*sentences(12, seed=3, longest=30), [2]]


def greedy(teacher: Any, rows: Sequence[Sequence[int]], options: Decoding) -> list[dict[str, Any]]:
    """fairseq's translations, one sentence at a time: padding would count for the limits."""
    generator = SequenceGenerator(
        [teacher],
        teacher.decoder.dictionary,
        beam_size=1,
        max_len_a=options.max_len_a,
        max_len_b=options.max_len_b,
        min_len=options.min_len,
        len_penalty=options.lenpen,
        unk_penalty=options.unkpen,
    )
    found = []
    for row in rows:
        net_input = {"src_tokens": torch.tensor([row]), "src_lengths": torch.tensor([len(row)])}
        found.append(generator.generate([teacher], {"net_input": net_input})[0][0])
    return found


@every_shape
@pytest.mark.parametrize(
    "options",
    [
        Decoding(verify=True, max_len_b=30),
        Decoding(verify=True, candidates=3, max_len_b=0, min_len=0),
        Decoding(verify=True, max_len_a=0.5, max_len_b=2, min_len=0, lenpen=0.3),
        Decoding(verify=True, max_len_b=40, min_len=8),
    ],
    ids=["long", "nothing", "short", "least"],
)
def test_it_is_the_greedy_translation(changes: dict[str, Any], options: Decoding, tmp_path: Path) -> None:
    model, teacher = tiny_model(seed=5), random_teacher(**changes)
    translator = exported(model, tmp_path / "m", teacher=teacher)
    wanted = greedy(teacher, ROWS, options)
    together = translator.decode(ROWS, options)
    alone = [translator.decode([row], options)[0] for row in ROWS]
    in_torch = verified_by_torch(model, ROWS, options, teacher)
    for found in (together, alone):
        assert [each.tokens for [each] in found] == [each["tokens"].tolist() for each in wanted]
        scores = [float(each["score"]) for each in wanted]
        assert [each.score for [each] in found] == pytest.approx(scores, abs=1e-5, rel=1e-5)
    assert [each["tokens"].tolist() for [each] in in_torch] == [each["tokens"].tolist() for each in wanted]
    passes = [each["passes"] for [each] in in_torch]
    assert [each.passes for [each] in together] == [each.passes for [each] in alone] == passes
    assert all(1 <= count <= len(each.tokens) for count, [each] in zip(passes, together, strict=True))


def test_batches_that_are_too_large_are_read_in_parts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, teacher = tiny_model(seed=5), random_teacher()
    translator = exported(model, tmp_path / "m", teacher=teacher)
    # Limits that differ: a part has to take its own.
    options = Decoding(verify=True, max_len_a=0.5, max_len_b=2, min_len=0)
    whole = translator.decode(ROWS, options)
    monkeypatch.setattr("vqnat_plugin.runtime.teacher.LOGITS_AT_FIRST", 600)
    monkeypatch.setattr("vqnat_plugin.generation.verification.MOST_LOGITS", 600)
    found = translator.decode(ROWS, options)
    in_torch = verified_by_torch(model, ROWS, options, teacher)
    for parts in ([each.tokens for [each] in found], [each["tokens"].tolist() for [each] in in_torch]):
        assert parts == [each.tokens for [each] in whole]
    assert [each.passes for [each] in found] == [each.passes for [each] in whole]


@pytest.mark.parametrize("options", [Decoding(verify=True, tolerance=0.3), Decoding(verify=True, unkpen=-4)])
def test_other_options_are_those_of_checkpoints(options: Decoding, tmp_path: Path) -> None:
    options.max_len_b = 30
    model, teacher = tiny_model(seed=5), random_teacher()
    translator = exported(model, tmp_path / "m", teacher=teacher)
    found, wanted = translator.decode(ROWS, options), verified_by_torch(model, ROWS, options, teacher)
    assert [each.tokens for [each] in found] == [each["tokens"].tolist() for [each] in wanted]
    assert [each.score for [each] in found] == pytest.approx([each["score"] for [each] in wanted], rel=1e-4)
    assert [each.passes for [each] in found] == [each["passes"] for [each] in wanted]
    if options.tolerance:
        strict = translator.decode(ROWS, Decoding(verify=True, max_len_b=30))
        assert sum(each.passes for [each] in found) < sum(each.passes for [each] in strict)


def lively(**changes: Any) -> Any:
    """A teacher whose translations differ, end at different places, and repeat little."""
    teacher = random_teacher(encoder_normalize_before=True, decoder_normalize_before=True, **changes)
    # A word says little of the next one.
    teacher.decoder.embed_tokens.weight.data.mul_(0.2)
    weight = torch.randn_like(teacher.decoder.output_projection.weight)
    teacher.decoder.output_projection.weight = torch.nn.Parameter(weight)
    return teacher


def corrupted(words: Sequence[int], draw: random.Random) -> list[int]:
    """A draft that is nearly right."""
    draft = list(words)
    for _ in range(draw.randrange(4)):
        place, word = draw.randrange(len(draft) + 1), draw.choice([0, *range(3, VOCABULARY)])
        change = draw.choice(["other", "more", "less", "cut", "tail"])
        if change == "more":
            draft.insert(place, word)
        elif change == "tail":
            draft += [draw.randrange(4, VOCABULARY) for _ in range(draw.randrange(40))]
        else:
            draft[place : None if change == "cut" else place + 1] = [word] * (change == "other")
    return [*draft, 2]


@pytest.mark.parametrize(
    "options",
    [
        Decoding(verify=True, max_len_b=30),
        Decoding(verify=True, max_len_a=0.5, max_len_b=2, min_len=0),
        Decoding(verify=True, max_len_b=40, min_len=8),
    ],
    ids=["long", "short", "least"],
)
def test_whatever_the_drafts_of_a_batch_are(options: Decoding, tmp_path: Path) -> None:
    teacher, draw = lively(), random.Random(1)
    translator = exported(tiny_model(seed=5), tmp_path / "m", teacher=teacher)
    wanted = [each["tokens"].tolist() for each in greedy(teacher, ROWS, options)]
    assert len(set(map(len, wanted))) > 2 and len(set(map(tuple, wanted))) > 10
    differ = 0
    for _ in range(8):
        numbers = [draw.randrange(len(ROWS)) for _ in range(draw.randrange(1, 12))]
        rows = [ROWS[number] for number in numbers]
        drafts = [Hypothesis(corrupted(wanted[number][:-1], draw), 0.0, [], 0) for number in numbers]
        found = translator.teacher.verify(rows, drafts, options)
        assert [each.tokens for each in found] == [wanted[number] for number in numbers]
        differ += len({each.passes for each in found}) > 1
    assert differ > 3


def test_what_did_not_pass_is_forgotten(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    teacher = lively()
    translator = exported(tiny_model(seed=5), tmp_path / "m", teacher=teacher)
    run, fed = translator.teacher._scorer.run, []

    def recorded(names: list[str], feeds: dict[str, Any]) -> Any:
        fed.append(feeds)
        return run(names, feeds)

    monkeypatch.setattr(translator.teacher, "_scorer", SimpleNamespace(run=recorded))
    for [found] in (translator.decode([row], Decoding(verify=True, max_len_b=30))[0] for row in ROWS):
        accepted = 0
        for feeds in fed:
            # Of a sentence alone, what is kept is what passed.
            assert feeds["seen"].all() and feeds["past_keys_0"].shape[2] >= accepted
            accepted = feeds["past_keys_0"].shape[2]
            assert feeds["seen"].shape[1] == accepted + feeds["tokens"].shape[1]
        assert len(fed) == found.passes and accepted < len(found.tokens)
        fed.clear()


def test_a_teacher_may_write_less_than_is_asked_for(tmp_path: Path) -> None:
    model, teacher = tiny_model(seed=5), lively(max_target_positions=7)
    translator = exported(model, tmp_path / "m", teacher=teacher)
    options = Decoding(verify=True, max_len_b=30)
    wanted = [each["tokens"].tolist() for each in greedy(teacher, ROWS, options)]
    assert max(map(len, wanted)) == 7
    assert [each.tokens for [each] in translator.decode(ROWS, options)] == wanted
    in_torch = verified_by_torch(model, ROWS, options, teacher)
    assert [each["tokens"].tolist() for [each] in in_torch] == wanted
    most, least = (Decoding(verify=True, max_len_b=30, min_len=length) for length in (6, 7))
    assert {len(each.tokens) for [each] in translator.decode(ROWS, most)} == {7}
    with pytest.raises(UsageError, match="--min-len 7: the teacher writes at most 6 sub-words"):
        translator.check(least)
    args = argparse.Namespace(beam=1, max_len_b=30, min_len=7)
    with pytest.raises(UsageError, match="--min-len 7: the teacher writes at most 6 sub-words"):
        LatentGenerator.from_options([model], args, teacher.decoder.dictionary, verifier=teacher)


def test_a_source_that_the_teacher_cannot_read() -> None:
    teacher = random_teacher(encoder_learned_pos=True, max_source_positions=5)
    verifier = Verifier(teacher, 0.0, 1, 0.0)
    for length in (5, 6):
        net_input = {
            "src_tokens": torch.tensor([[4] * (length - 1) + [2]]),
            "src_lengths": torch.tensor([length]),
        }
        if length == 5:
            assert verifier(net_input, [[7, 2]], [9])[0].tokens
            continue
        with pytest.raises(DataError, match="a sentence of 6 tokens: the teacher reads 5 at most"):
            verifier(net_input, [[7, 2]], [9])
        with pytest.raises(DataError, match="a sentence of 6 tokens: the teacher reads 5 at most"):
            rescore([teacher], net_input, torch.tensor([[[7, 2]]]), 1)
        # Computed positions have no end.
        endless = random_teacher(max_source_positions=5)
        assert Verifier(endless, 0.0, 1, 0.0)(net_input, [[7, 2]], [9])[0].tokens
    short = random_teacher(decoder_learned_pos=True, max_target_positions=3)
    with pytest.raises(DataError, match="a candidate of 4 tokens: the teacher writes 3 at most"):
        rescore([short], net_input, torch.tensor([[[7, 8, 9, 2]]]), 1)


def checked(translator: Any, teacher: Any, draft: list[int], options: Decoding) -> Verified:
    """A draft of the first row, checked in the runtime; the same in torch."""
    row = ROWS[0]
    [found] = translator.teacher.verify([row], [Hypothesis(draft, 0.0, [], 0)], options)
    verifier = Verifier(teacher, options.tolerance, options.min_len, options.unkpen)
    net_input = {"src_tokens": torch.tensor([row]), "src_lengths": torch.tensor([len(row)])}
    [in_torch] = verifier(net_input, [draft], [options.limit(len(row))])
    assert in_torch.tokens == found.tokens and in_torch.passes == found.passes
    assert sum(in_torch.scores) / len(in_torch.tokens) == pytest.approx(found.score, rel=1e-4)
    return in_torch


def test_a_tolerance_does_not_pass_over_limits_and_penalties(tmp_path: Path) -> None:
    teacher, unk, eos = random_teacher(), 3, 2
    translator = exported(tiny_model(seed=5), tmp_path / "m", teacher=teacher)
    wide = {"verify": True, "max_len_b": 12, "tolerance": 100.0}
    assert checked(translator, teacher, [7, eos], Decoding(**wide)).tokens == [7, eos]
    least = checked(translator, teacher, [7, eos], Decoding(**wide, min_len=4))
    assert len(least.tokens) > 4 and least.tokens[0] == 7
    assert checked(translator, teacher, [unk, eos], Decoding(**wide)).tokens == [unk, eos]
    assert unk not in checked(translator, teacher, [unk, eos], Decoding(**wide, unkpen=200)).tokens


def test_the_unknown_word_costs_the_same_whoever_wrote_it(tmp_path: Path) -> None:
    teacher, unk, eos = random_teacher(), 3, 2
    translator = exported(tiny_model(seed=5), tmp_path / "m", teacher=teacher)
    options = Decoding(verify=True, max_len_b=6, unkpen=-50)
    drafts = [[unk] * 6 + [eos], [7, 8, 9, eos]]
    one, other = (checked(translator, teacher, draft, options) for draft in drafts)
    assert one.tokens == other.tokens and unk in one.tokens
    assert one.scores == pytest.approx(other.scores, rel=1e-4)


def test_the_sentences_of_a_batch_are_read_together(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    teacher = random_teacher()
    translator = exported(tiny_model(seed=5), tmp_path / "m", teacher=teacher)
    options, calls = Decoding(verify=True, max_len_b=30), [0, 0]

    def counting(place: int, function: Any) -> Any:
        def counted(*arguments: Any, **named: Any) -> Any:
            calls[place] += 1
            return function(*arguments, **named)

        return counted

    scorer = SimpleNamespace(run=counting(0, translator.teacher._scorer.run))
    monkeypatch.setattr(translator.teacher, "_scorer", scorer)
    monkeypatch.setattr(teacher.decoder, "forward", counting(1, teacher.decoder.forward))
    passes = [each.passes for [each] in translator.decode(ROWS, options)]
    verified_by_torch(tiny_model(seed=5), ROWS, options, teacher)
    assert calls == [max(passes)] * 2 and max(passes) < sum(passes) / 4
