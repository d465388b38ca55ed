"""Translate over HTTP with an exported model; needs neither torch nor fairseq.

POST /translate takes {"text": "..."} or a list of texts, and gives {"translations": [...], "milliseconds":
...}. The sentences of a text are translated one by one, and line breaks between them stay; one that is longer
than nearly all of the training is halved between words. "split_sentences": false takes a text as one, as
models without a text pipeline always do. A line of a text, or one that is not split, may have 16 characters
for each token that the model reads (max_source_positions of /model). With "details": true a text is one
sentence, and the answer has scores, tokens and codes of its candidates as well, or of "n_best" of them; those
with the same words count once. Further fields are options of vqnat translate: candidates, rescore, verify,
tolerance, max_len_a, max_len_b, min_len, lenpen, unkpen. What arrives together is decoded together. /health
and /model say how it is and what it is; / is a page to try it on. Ctrl-C or SIGTERM ends it when it has
answered.

It decodes one batch at a time, in --threads threads; for all cores of a machine start several behind a proxy.
A model in int8 rounds by batch: a word may depend on what else was asked. With --batch-size 1 it does not,
and in fp32 only where two words are as probable to six digits.

  vqnat serve exported --port 8000
  curl localhost:8000/translate -H 'Content-Type: application/json' -d '{"text": "A man sleeps. He snores."}'
  curl localhost:8000/translate -H 'Content-Type: application/json' -d '{"text": "A man.", "verify": true}'
"""

from dataclasses import dataclass
from pathlib import Path

from ..options import FOLDER, MOST_PROCESSES, option
from ..runtime.limits import Limits

# Nothing is lost by it.
INTERRUPTED = ""


@dataclass(kw_only=True)
class Options(Limits):
    """Options of `vqnat serve`."""

    model: Path = option(..., "folder that vqnat export wrote", positional=True, exists=FOLDER, metavar="DIR")
    host: str = option("127.0.0.1", "address to listen on; 0.0.0.0 lets in whoever reaches this machine")
    port: int = option(8000, "port to listen on; 0 takes one that is free", least=0, most=65535)
    threads: int = option(1, "threads a computation may use", least=1, most=MOST_PROCESSES)


def run(options: Options) -> None:
    """Serve."""
    from ..runtime.server import Service, build_server, listen, serve
    from ..runtime.translator import Translator

    listening = listen(options.host, options.port, options.timeout)
    service = Service(Translator(options.model, options.threads), options)
    host, port = listening.getsockname()[:2]
    print(f"http://{f'[{host}]' if ':' in host else host}:{port} (Ctrl-C ends it)", flush=True)
    serve(build_server(service, options.timeout), listening)
