"""Loaders of a run's batches: training samples in a seeded order, and rows to evaluate the student on."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from torch.utils.data import DataLoader

from gold_lightning.t5.batch_order import training_order
from gold_lightning.t5.batches import EncodedSamples, make_loader
from gold_lightning.task import Sample, Task

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

__all__ = ["Loaders"]


class Loaders:
    """Makes the loaders of a run. Training samples are tokenized once, in whichever round they came.

    Args:
        task: The task.
        tokenizer: The student's tokenizer.
        shares: Returns the number of processes that share the rows, and the rank of this one.
        group_by_length: Make training batches of samples of about one length.

    Example:
        >>> from gold_lightning import Sample, Task
        >>> from gold_lightning.t5.weights import load_tokenizer
        >>> task, rows = Task.load("news_topics"), [Sample({"text": t}, "World") for t in ("Talks", "Talks on peace")]
        >>> loaders = Loaders(task, load_tokenizer("embedded"))
        >>> [batch["id"].tolist() for batch in loaders.evaluation(rows, batch_size=1)]
        [[1], [0]]
        >>> len(loaders.training(rows, batch_size=2, total=6, seed="1"))
        3
    """

    def __init__(
        self,
        task: Task,
        tokenizer: PreTrainedTokenizerBase,
        shares: Callable[[], tuple[int, int]] = lambda: (1, 0),
        *,
        group_by_length: bool = False,
    ) -> None:
        self.task, self.tokenizer, self.group_by_length, self._shares = task, tokenizer, group_by_length, shares
        self._encoded: EncodedSamples | None = None

    def training(
        self,
        samples: Sequence[Sample],
        batch_size: int,
        total: int,
        seed: str,
        probabilities: Sequence[Mapping[str, float]] = (),
    ) -> DataLoader[dict[str, Any]]:
        """Makes a loader of this process's share of training batches.

        Args:
            samples: The samples.
            batch_size: Samples per batch of each process.
            total: Number of rows of all processes; samples come again after all others have had their turn.
            seed: Seed of the order.
            probabilities: Stored probabilities of labels of each sample, for losses that learn them.
        """
        encoded = EncodedSamples(self.task, self.tokenizer, samples, self._encoded, probabilities)
        self._encoded, shares = encoded, self._shares()
        window = None if self.group_by_length else 1
        order = training_order(encoded.sizes, shares[0] * batch_size, total, seed, window)
        return make_loader(self.task, self.tokenizer, encoded, batch_size, order, shares)

    def evaluation(
        self, samples: Sequence[Sample], batch_size: int, rows: Sequence[int] | None = None, *, shard: bool = False
    ) -> DataLoader[dict[str, Any]]:
        """Makes a loader of batches to evaluate the student on: the longest samples first, each under its own id.

        Args:
            samples: The samples.
            batch_size: Samples per batch of each process.
            rows: Positions in ``samples`` of those to load; all by default.
            shard: Load this process's share alone.
        """
        encoded = EncodedSamples(self.task, self.tokenizer, samples)
        shares = self._shares() if shard else (1, 0)
        return make_loader(self.task, self.tokenizer, encoded, batch_size, encoded.longest_first(rows), shares)
