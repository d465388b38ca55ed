"""The teacher: any fairseq model that translates, or several as an ensemble."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from fairseq import utils
from fairseq.dataclass.configs import GenerationConfig

from ..errors import DataError, UsageError
from ..models.checkpoints import TRANSLATION, Checkpoint, import_plugin
from .corpus import ParallelData
from .settings import DistillOptions, Share


class Teacher:
    """Models and their search, ready to translate.

    Attributes:
        max_source_length: longest source in tokens, with EOS, that the models can read; None for no limit.
    """

    def __init__(self, task: Any, models: Sequence[Any], generator: Any, device: torch.device) -> None:
        self.task = task
        self.models = list(models)
        self.generator = generator
        self.device = device
        limits = utils.resolve_max_positions(
            task.max_positions(), *[model.max_positions() for model in models]
        )
        self.max_source_length: int | None = limits[0] if isinstance(limits, tuple) else limits
        dictionary = task.target_dictionary
        self.special = {dictionary.bos(), dictionary.pad(), dictionary.eos()}

    def translate(self, sources: Sequence[torch.Tensor]) -> list[np.ndarray]:
        """The best translation of each source.

        A batch that does not fit into the GPU's memory is cut in half, as often as necessary; samples are
        then others than those of the whole batch.

        Args:
            sources: token ids with EOS, best all of one length.

        Returns:
            Token ids (int32) without special symbols.

        Raises:
            DataError: not even one source fits into the GPU's memory, the teacher cannot write so many words,
                or its scores are no numbers.
        """
        try:
            return self._translate(sources)
        except torch.OutOfMemoryError:
            if len(sources) == 1:
                raise DataError(
                    f"a source of {len(sources[0])} tokens alone does not fit into the GPU's memory; "
                    "lower --beam or --max-len-a, or use --fp16"
                ) from None
        torch.cuda.empty_cache()
        half = len(sources) // 2
        return self.translate(sources[:half]) + self.translate(sources[half:])

    def _translate(self, sources: Sequence[torch.Tensor]) -> list[np.ndarray]:
        dataset = self.task.build_dataset_for_inference(list(sources), [len(source) for source in sources])
        sample = dataset.collater([dataset[i] for i in range(len(sources))])
        if self.device.type == "cuda":
            sample = utils.move_to_cuda(sample, self.device)
        try:
            found = self.task.inference_step(self.generator, self.models, sample)
        except AssertionError as error:
            if "min_len" in str(error):
                raise DataError(
                    "--min-len: is more than a translation may have, by --max-len-a and --max-len-b or by "
                    "the positions that the teacher knows"
                ) from None
            raise DataError(
                f"the search ended without a translation of finite score (fairseq: {error}); if the teacher "
                "overflows in half precision, use --bf16, or neither it nor --fp16, with --restart"
            ) from error
        outputs: list[np.ndarray] = [np.empty(0, np.int32)] * len(sources)
        for i, candidates in zip(sample["id"].tolist(), found, strict=True):
            tokens = candidates[0]["tokens"].tolist()
            outputs[i] = np.array([token for token in tokens if token not in self.special], dtype=np.int32)
        return outputs


def choose_device(share: Share, cpu: bool, precision: str) -> torch.device:
    """This process's GPU, or the CPU where there is none or `cpu` asks for it.

    Raises:
        UsageError: fp16 on a CPU.
    """
    if torch.cuda.is_available() and not cpu:
        return torch.device("cuda", share.local_rank % torch.cuda.device_count())
    if precision == "fp16":
        raise UsageError("--fp16 needs a GPU; leave it out, or use --bf16 or --mixed-precision")
    return torch.device("cpu")


def open_teacher(options: DistillOptions, data: ParallelData, device: torch.device) -> Teacher:
    """Rebuild the task and the models that the checkpoints describe, around the dictionaries in `data`.

    Raises:
        UsageError: there is no such `--user-dir`, or it cannot be imported.
        CheckpointError: a file is no checkpoint of a translation model, needs a plugin that is not loaded, or
            does not fit the data.
    """
    if options.user_dir is not None:
        import_plugin(options.user_dir)
    if device.type == "cuda":
        torch.cuda.set_device(device)
    task, models = None, []
    for path in options.teachers:
        checkpoint = Checkpoint(path, TRANSLATION, f"--teacher {path}")
        checkpoint.check_data(data.folder, (data.source_lang, data.target_lang))
        model, cfg, task = checkpoint.build(
            task, data=str(data.folder), source_lang=data.source_lang, target_lang=data.target_lang
        )
        if options.precision != "fp32":
            model.to(torch.float16 if options.precision == "fp16" else torch.bfloat16)
        model.to(device)
        model.prepare_for_inference_(cfg)
        models.append(model)
    assert task is not None
    search = {name: value for name, value in options.search().items() if name != "seed"}
    # fairseq ends with a traceback at more than there are.
    search["sampling_topk"] = min(search["sampling_topk"], len(task.target_dictionary))
    return Teacher(task, models, task.build_generator(models, GenerationConfig(**search)), device)
