"""The one reader of what fairseq-train writes: what is in the file, what it needs, and its model, rebuilt."""

import contextlib
from argparse import Namespace
from pathlib import Path
from typing import Any, NamedTuple

from fairseq import checkpoint_utils, tasks, utils
from fairseq.data import Dictionary
from fairseq.data.data_utils import infer_language_pair
from fairseq.dataclass.utils import overwrite_args_by_name
from fairseq.models import ARCH_MODEL_REGISTRY, FairseqEncoderDecoderModel
from fairseq.tasks import TASK_REGISTRY
from fairseq.tasks.translation import TranslationTask

from ..errors import CheckpointError, DataError, UsageError
from ..fairseq_checks import load_models, names, require_started, told, unsound
from ..safe_loading import without_weights


class Kind(NamedTuple):
    """What a checkpoint may have to be of: the class of its model or of its task, and a name in messages."""

    name: str
    base: type | tuple[type, ...]


AUTOREGRESSIVE = Kind("autoregressive model", FairseqEncoderDecoderModel)
TRANSLATION = Kind("translation model", (TranslationTask, FairseqEncoderDecoderModel))


def import_plugin(folder: Path) -> None:
    """Import a fairseq plugin: its tasks and models are known then.

    Raises:
        UsageError: there is no such folder, or it cannot be imported.
    """
    try:
        utils.import_user_module(Namespace(user_dir=str(folder)))
    except (ImportError, ValueError) as error:
        raise UsageError(f"--user-dir {folder}: cannot be imported ({error})") from None


class Checkpoint:
    """A file of fairseq-train that has been read.

    Attributes:
        path: where it lies.
        who: what messages call it.
        state: what is stored; `cfg` has all options, those of old checkpoints included.
        config: `state["cfg"]`, by fairseq's groups (`task`, `model`, ...).
    """

    def __init__(self, path: Path, kind: Kind | None = None, who: str = "", weights: bool = True) -> None:
        """Read a file once.

        Args:
            path: the file.
            kind: what it has to be.
            who: what messages call it, such as `--teacher a.pt`; its path by default.
            weights: whether they are needed; without them `state["model"]` has shapes only.

        Raises:
            CheckpointError: the file cannot be read, is no checkpoint of fairseq-train, or of another kind.
        """
        self.path, self.who = path, who or str(path)
        try:
            with contextlib.nullcontext() if weights else without_weights():
                self.state = checkpoint_utils.load_checkpoint_to_cpu(str(path))
        except OSError as error:
            raise CheckpointError(f"{self.who}: {error.strerror}") from None
        except CheckpointError as error:
            raise CheckpointError(f"{self.who}{str(error).removeprefix(str(path))}") from None
        if wrong := unsound(self.state):
            raise CheckpointError(f"{self.who}: {wrong}")
        self.config: Any = self.state["cfg"]
        # fairseq would rather read them than `cfg`, which has been made of them.
        self.state["args"] = None
        task, model = names(self.config)
        found = [TASK_REGISTRY.get(task), ARCH_MODEL_REGISTRY.get(model)]
        trained = f"was trained with --task {task} --arch {model}"
        if kind and None in found:
            raise CheckpointError(f"{self.who}: {trained}; not both are known, a plugin needs --user-dir")
        if kind and not any(issubclass(each, kind.base) for each in found):
            raise CheckpointError(f"{self.who}: is no {kind.name}, but {trained}")

    @property
    def task(self) -> Any:
        """The options of its task."""
        return self.config.task

    @property
    def updates(self) -> int:
        """How long it was trained; `CheckpointError` if it does not say so."""
        try:
            return int(self.state["optimizer_history"][-1]["num_updates"])
        except (IndexError, KeyError, TypeError, ValueError):
            raise CheckpointError(f"{self.who}: does not say after how many updates it was written") from None

    def check_data(
        self, data: Path, languages: tuple[str | None, str | None] = (None, None)
    ) -> tuple[str, str]:
        """Compare a folder of binarised data with that of the training, as far as it is known.

        Args:
            data: the folder.
            languages: of source and target, as they are to be read; None for those of the training.

        Returns:
            The languages.

        Raises:
            DataError: the languages are not known, or a dictionary is missing.
            CheckpointError: the model translates other languages, or has other dictionaries.
        """
        origin = training_data(self.task)
        own = tuple(getattr(self.task, name, None) for name in ("source_lang", "target_lang"))
        if None in own and origin.is_dir():
            own = tuple(infer_language_pair(str(origin)))
        source, target = known_languages(data, (languages[0] or own[0], languages[1] or own[1]))
        if None not in own and own != (source, target):
            raise CheckpointError(
                f"{self.who}: translates {'-'.join(map(str, own))}, but {data} is to be read as "
                f"{source}-{target}; check --source-lang and --target-lang"
            )
        for language in (source, target):
            now = dictionary_path(data, language)
            before = origin / now.name
            if before.is_file() and Dictionary.load(str(before)) != Dictionary.load(str(now)):
                raise CheckpointError(
                    f"{self.who}: was trained with {before}, which has other symbols than {now}; binarise "
                    "with the dictionaries of the training (fairseq-preprocess --srcdict, --tgtdict)"
                )
        return source, target

    def build(self, task: Any = None, /, **overrides: Any) -> tuple[Any, Any, Any]:
        """Rebuild the model, as often as wanted.

        Args:
            task: one that is there already; by default that of the training.
            overrides: options by name that are to be others. Unless they say so, BLEU is not measured, and no
                teacher ranks or checks what the model writes, as it may have while it was trained.

        Returns:
            The model in evaluation mode, all its options, and its task.

        Raises:
            DataError: its task has no use for the data.
            CheckpointError: its weights do not fit its options or the dictionaries, or its codes have had no
                start.
        """
        # What measures BLEU would be set up, with whatever packages it needs.
        alone = {"eval_bleu": False, "rescore_with": None, "verify_with": None}
        overwrite_args_by_name(self.config, alone | overrides)
        folder = getattr(self.task, "data", None)
        with told(DataError, f"{self.who}: cannot be used with the data in {folder}"):
            task = task or tasks.setup_task(self.task, from_checkpoint=True)
        with told(CheckpointError, f"{self.who}: cannot be rebuilt with the data in {folder}"):
            [model], config, task = load_models([str(self.path)], task=task, state=self.state)
        require_started(self.who, [model])
        return model.eval(), config, task


def training_data(task: Any) -> Path:
    """The folder of data that a task was trained on, the first if it had several; it may be gone."""
    return Path(str(getattr(task, "data", None)).split(":")[0])


def known_languages(data: Path, languages: tuple[str | None, str | None]) -> tuple[str, str]:
    """Languages of source and target; those that are None are the data's.

    Raises:
        DataError: the names of the files in the folder do not say them either.
    """
    found = infer_language_pair(str(data)) if None in languages else languages
    source, target = languages[0] or found[0], languages[1] or found[1]
    if source is None or target is None:
        raise DataError(f"{data}: its languages are not known; add --source-lang and --target-lang")
    return source, target


def dictionary_path(data: Path, language: str) -> Path:
    """The dictionary in a folder of binarised data; `DataError` if there is none."""
    path = data / f"dict.{language}.txt"
    if not path.is_file():
        raise DataError(f"{data}: has no {path.name}; is it what fairseq-preprocess wrote?")
    return path
