"""fairseq's interface to a model that translates, as Python code uses it."""

from collections.abc import Sequence
from typing import Any

from fairseq.hub_utils import GeneratorHubInterface

from ..errors import DataError, UsageError
from ..fairseq_options import check_generation

# Arguments of `GeneratorHubInterface.generate` itself, which are no options of the search.
OWN = ("skip_invalid_size_inputs", "inference_step_args", "prefix_allowed_tokens_fn", "score_reference")
# Options of the task: models are loaded by them.
OF_THE_TASK = ("rescore_with", "verify_with", "verify_tolerance")


class TranslationHub(GeneratorHubInterface):
    """`translate` and `generate`, which refuse what would mean nothing."""

    def generate(self, tokenized_sentences: Any, beam: int = 5, verbose: bool = False, **options: Any) -> Any:
        """Hypotheses of each source, the best first.

        Args:
            tokenized_sentences: token ids of each, with EOS.
            beam: latent candidates.
            verbose: whether to print them.
            options: others of fairseq's decoding, by name.

        Raises:
            UsageError: there is no such option, or its value is out of its range.
        """
        search = {name: value for name, value in options.items() if name not in OWN}
        for name in OF_THE_TASK:
            if name in search:
                raise UsageError(f"translate: {name} is for from_pretrained({name}=...)")
        check_generation("translate", {"beam": beam, **search})
        return super().generate(tokenized_sentences, beam=beam, verbose=verbose, **options)

    def sample(
        self, sentences: str | Sequence[str], beam: int = 1, verbose: bool = False, **options: Any
    ) -> Any:
        """The best translation of each sentence, or of one; of no text an empty one. See `generate`.

        Raises:
            DataError: a sentence is longer than the model can read.
        """
        if isinstance(sentences, str):
            return self.sample([sentences], beam=beam, verbose=verbose, **options)[0]
        tokens = [self.encode(sentence) for sentence in sentences]
        longest = self.max_positions[0]
        for number, each in enumerate(tokens):
            if longest is not None and len(each) > longest:
                raise DataError(
                    f"translate: sentences[{number}] has {len(each)} tokens, the model reads "
                    f"{longest} at most: split it"
                )
        # EOS alone is no text.
        found = iter(self.generate([each for each in tokens if len(each) > 1], beam, verbose, **options))
        return [self.decode(next(found)[0]["tokens"]) if len(each) > 1 else "" for each in tokens]
