"""What a server takes from its clients."""

from dataclasses import dataclass

from ..options import MOST_BEAM, option, require

GROUP = "limits"
# What is waited for longer overflows in clocks.
MOST_SECONDS = 1e6


@dataclass(kw_only=True)
class Limits:
    """Limits of a server, for the command and for Python."""

    max_sentences: int = option(100, "sentences a request, those of all its texts", least=1, group=GROUP)
    max_candidates: int = option(16, "candidates a sentence", least=1, most=MOST_BEAM, group=GROUP)
    max_bytes: int = option(1 << 17, "bytes a request", least=1, group=GROUP)
    batch_size: int = option(32, "sentences decoded together", least=1, group=GROUP)
    queue: int = option(1000, "sentences that wait; requests for more are refused", least=1, group=GROUP)
    timeout: float = option(
        30.0, "seconds a request, with its time in the queue", above=0, below=MOST_SECONDS, group=GROUP
    )

    def check(self) -> None:
        """Raise `UsageError` where a request of the largest size could never be taken."""
        require(self, "queue", self.queue >= self.max_sentences, "as much as --max-sentences, or more")
