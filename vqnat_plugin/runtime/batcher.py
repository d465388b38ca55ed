"""Sentences of many requests, decoded together."""

import threading
from collections import deque
from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field

from .decoding import Decoding
from .hypotheses import Hypothesis
from .translator import BATCH_TOKENS, Translator

# Source tokens, for all candidates, behind which a batch takes no more: what waits can still be given up.
MOST_TOKENS = 4 * BATCH_TOKENS


class Unavailable(Exception):
    """Nothing is taken now; a later try may succeed."""


@dataclass(eq=False)
class _Job:
    """A sentence that waits."""

    row: Sequence[int]
    options: Decoding
    scores: bool
    found: "Future[list[Hypothesis]]" = field(default_factory=Future)

    @property
    def tokens(self) -> int:
        """Source tokens, or those that have to be written where these are more, for all candidates."""
        return max(len(self.row), self.options.min_len) * self.options.candidates

    def goes_with(self, other: "_Job") -> bool:
        return self.options == other.options and self.scores == other.scores


class Batcher:
    """One thread that decodes; what waits while it does, and is to be decoded alike, is its next batch."""

    def __init__(self, translator: Translator, batch_size: int, queue: int) -> None:
        """Start the thread.

        Args:
            translator: the model.
            batch_size: most sentences of a batch.
            queue: most sentences that wait.
        """
        self._translator, self._batch_size, self._queue = translator, batch_size, queue
        self._jobs: deque[_Job] = deque()
        self._changed = threading.Condition()
        self._closed = False
        self._thread = threading.Thread(target=self._work, name="decoding", daemon=True)
        self._thread.start()

    @property
    def waiting(self) -> int:
        """Sentences that nobody has begun, and somebody waits for."""
        with self._changed:
            return sum(not job.found.cancelled() for job in self._jobs)

    @property
    def closed(self) -> bool:
        """Whether it takes nothing more."""
        return self._closed

    def submit(
        self, rows: Sequence[Sequence[int]], options: Decoding, scores: bool
    ) -> "list[Future[list[Hypothesis]]]":
        """Let sentences wait; one whose future is cancelled before it is begun is left out.

        Args:
            rows: see `Translator.decode`.
            options: how they are decoded, checked.
            scores: whether scores are needed.

        Raises:
            Unavailable: too many wait, or it is closed; then none is taken.
        """
        # Several candidates have scores anyway unless a teacher ranks them, and so has what it has checked.
        scores = scores or (options.candidates > 1 and not options.rescore) or options.verify
        jobs = [_Job(row, options, scores) for row in rows]
        with self._changed:
            self.admit(len(jobs))
            self._jobs.extend(jobs)
            self._changed.notify()
        return [job.found for job in jobs]

    def admit(self, sentences: int) -> None:
        """Raise `Unavailable` where there is no place for so many more."""
        with self._changed:
            if self._closed:
                raise Unavailable("the server stops")
            self._jobs = deque(job for job in self._jobs if not job.found.cancelled())
            if len(self._jobs) + sentences > self._queue:
                raise Unavailable(f"{len(self._jobs)} sentences wait; try again later")

    def close(self) -> None:
        """Take nothing more, give up what nobody has begun, and return when what has begun is decoded."""
        with self._changed:
            self._closed = True
            for job in self._jobs:
                job.found.cancel()
            self._changed.notify()
        self._thread.join()

    def _work(self) -> None:
        while batch := self._next():
            try:
                rows = [job.row for job in batch]
                found = self._translator.decode(rows, batch[0].options, batch[0].scores)
            except Exception as error:
                for job in batch:
                    job.found.set_exception(error)
            else:
                for job, each in zip(batch, found, strict=True):
                    job.found.set_result(each)

    def _next(self) -> list[_Job]:
        """The next batch, when there is one; empty at the end."""
        with self._changed:
            batch: list[_Job] = []
            while not batch:
                self._changed.wait_for(lambda: self._jobs or self._closed)
                if not self._jobs:
                    return []
                batch = self._take()
            return batch

    def _take(self) -> list[_Job]:
        """The sentence that waits longest and those that go with it; the others keep their order."""
        batch: list[_Job] = []
        others: list[_Job] = []
        tokens = 0
        while self._jobs and len(batch) < self._batch_size and tokens < MOST_TOKENS:
            job = self._jobs.popleft()
            if batch and not job.goes_with(batch[0]):
                others.append(job)
            elif job.found.set_running_or_notify_cancel():
                batch.append(job)
                tokens += job.tokens
        self._jobs.extendleft(reversed(others))
        return batch
