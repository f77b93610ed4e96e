"""What a student does without a trainer: write, read, predict. Needs torch and transformers alone.

:class:`gold_lightning.student.T5Student` is such a student that can be trained as well; :class:`SavedStudent` is one
that was loaded from its folder.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeVar, cast, overload

import numpy as np
import torch
from torch import Tensor

from gold_lightning.calibration.rule import judge
from gold_lightning.errors import GoldError
from gold_lightning.inputs.paths import expand
from gold_lightning.scores import EnergyScore, OODScore
from gold_lightning.t5.batches import IGNORE_INDEX, Text, encode_inputs, fields_of
from gold_lightning.t5.folder import load_calibration, load_folder_task
from gold_lightning.t5.label_scoring import LabelScores, LabelTree, encoder_outputs, score_labels
from gold_lightning.t5.modes import evaluation_mode, is_sharded
from gold_lightning.t5.prediction import Prediction
from gold_lightning.t5.set_scoring import SetScores, score_sets
from gold_lightning.t5.set_tokens import SetTokens
from gold_lightning.t5.weights import load_model, load_tokenizer, target_text
from gold_lightning.task import Sample, Task, TaskSource

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

__all__ = ["Inference", "RowScores", "SavedStudent", "answer_of"]

_T = TypeVar("_T")
_WINDOW = 64  # batches that are sorted by length together


@dataclass(frozen=True)
class RowScores:
    """A prediction and its scores, before any calibration.

    Args:
        text: The predicted label or text.
        log_probs: (labels,), natural logarithm of the probability of each label; (1,), that of the text.
        energy: Energy of the prediction.
        best: Position of the predicted label; 0 for a text.
    """

    text: str
    log_probs: np.ndarray[Any, Any]
    energy: float
    best: int


@dataclass(frozen=True)
class _BatchScores:
    texts: list[str]
    log_probs: np.ndarray[Any, Any]  # (rows, labels)
    energies: np.ndarray[Any, Any]
    best: np.ndarray[Any, Any]

    def rows(self) -> list[RowScores]:
        columns = (self.texts, self.log_probs, self.energies.tolist(), self.best.tolist())
        return [RowScores(*row) for row in zip(*columns, strict=True)]


def answer_of(task: Task, text: str) -> str:
    """Extracts the target from a student's text by removing the text around it in ``student.target`` of the task."""
    prefix, suffix = (part.strip() for part in task.student_target("\0").split("\0", 1))
    return text.strip().removeprefix(prefix).removesuffix(suffix).strip()


class Inference:
    """Writing, reading and predicting, for classes with a task, a T5, its tokenizer and settings of decoding."""

    task: Task
    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    num_beams: int
    constrained_decoding: bool
    calibration: Mapping[str, Any] | None = None
    """Temperature and threshold, as :mod:`gold_lightning.calibration.rule` describes them; ``None`` for none."""

    @property
    def scores_labels(self) -> bool:
        """Whether the student chooses among the task's labels instead of generating text."""
        return bool(self.task.labels) and self.constrained_decoding

    @torch.no_grad()
    def encoded(self, batch: dict[str, Any]) -> dict[str, Any]:
        """Returns a batch with ``encoder_states``, which all later passes over it read instead of encoding it again.

        A sharded model gathers its weights for whole passes, so it encodes in each of them.

        Args:
            batch: A batch, for a model in evaluation mode.
        """
        if is_sharded(self.model):
            return batch
        encoder: Any = self.model.get_encoder()
        states = encoder(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"]).last_hidden_state
        return batch | {"encoder_states": states}

    def write(self, batch: dict[str, Any], num_beams: int = 1) -> Tensor:
        """Writes an output for each row: the likeliest label, or generated text.

        Args:
            batch: A batch.
            num_beams: Number of beams for generated text; 1 is greedy.

        Returns:
            (batch, target_len) int64, -100 after the end of each sequence.
        """
        if self.scores_labels:
            return self.label_scores(batch).tokens
        generate: Any = self.model.generate
        out: Tensor = generate(
            **self._source(batch),
            attention_mask=batch["attention_mask"],
            max_new_tokens=self.task.student.max_target_tokens,
            num_beams=num_beams,
            do_sample=False,
            synced_gpus=is_sharded(self.model),  # each process has a part of the weights, until all have written
        )[:, 1:]
        # What follows the first end is padding; the end itself counts.
        end = (out == self.model.config.eos_token_id).long()
        return out.masked_fill(end.cumsum(-1) - end > 0, IGNORE_INDEX)

    def read(self, tokens: Tensor) -> list[str]:
        """Decodes token rows, (batch, target_len) with -100 on padding, to texts; labels by their own name."""
        pad: Any = self.tokenizer.pad_token_id
        texts = self.tokenizer.batch_decode(tokens.masked_fill(tokens == IGNORE_INDEX, pad), skip_special_tokens=True)
        if not self.task.one_label:
            answers = [answer_of(self.task, text) for text in texts]
            return [self._in_order(answer) for answer in answers] if self.task.many else answers
        return [self._readable.get(text.strip(), text.strip()) for text in texts]

    def label_scores(
        self, batch: dict[str, Any], score: OODScore | None = None, *, best_only: bool = True
    ) -> LabelScores | SetScores:
        """Scores the task's labels, or sets of them, for each row.

        Args:
            batch: A batch.
            score: The score to compute for the best label or set.
            best_only: Compute no more than the best label or set needs.

        Returns:
            The result of :func:`gold_lightning.t5.label_scoring.score_labels`, or of
            :func:`gold_lightning.t5.set_scoring.score_sets` if rows have several labels.
        """
        if self.task.many:
            return score_sets(self.model, self._sets, batch, score, best_only=best_only)
        return score_labels(self.model, self.label_tree, batch, score, best_only=best_only)

    def forward_logits(self, batch: dict[str, Any], labels: Tensor) -> Tensor:
        """Returns logits, (batch, target_len, vocab), with the decoder forced on ``labels``, (batch, target_len)."""
        logits: Tensor = self.forward_outputs(batch, labels).logits
        return logits

    def forward_outputs(self, batch: dict[str, Any], labels: Tensor) -> Any:
        """Returns all outputs of the model, with the decoder forced on ``labels``, (batch, target_len)."""
        shift_right: Any = self.model._shift_right
        return self.model(
            **self._source(batch),
            attention_mask=batch["attention_mask"],
            decoder_input_ids=shift_right(labels),
            use_cache=False,
        )

    def _source(self, batch: dict[str, Any]) -> dict[str, Any]:
        states = batch.get("encoder_states")
        return {"input_ids": batch["input_ids"]} if states is None else {"encoder_outputs": encoder_outputs(states)}

    @torch.no_grad()
    def _score_batch(self, batch: dict[str, Any]) -> _BatchScores:
        score = EnergyScore()
        if self.scores_labels:
            scores = self.label_scores(batch, score, best_only=False)
            assert scores.energies is not None
            if isinstance(scores, SetScores):
                sets = [self._sets.text(labels) for labels in scores.sets]
                of_sets = scores.log_probs[:, None].cpu().numpy()
                return _BatchScores(sets, of_sets, scores.energies.cpu().numpy(), np.zeros(len(sets), int))
            best = scores.best.cpu().numpy()
            texts = [self.task.label_names[i] for i in best.tolist()]
            return _BatchScores(texts, scores.log_probs.cpu().numpy(), scores.energies.cpu().numpy(), best)
        batch = self.encoded(batch)
        tokens = self.write(batch, self.num_beams)
        logits, written = self.forward_logits(batch, tokens).float(), tokens != IGNORE_INDEX
        log_probs = logits.log_softmax(-1).gather(-1, tokens.clamp(min=0)[..., None])[..., 0]
        totals = (log_probs * written).sum(-1, keepdim=True).cpu().numpy()
        energies = score(logits, written).cpu().numpy()
        return _BatchScores(self.read(tokens), totals, energies, np.zeros(len(totals), int))

    @torch.no_grad()
    def predict_batch(self, batch: dict[str, Any]) -> list[Prediction]:
        """Predicts each row of a batch.

        Args:
            batch: ``input_ids`` and ``attention_mask``, on the model's device.
        """
        if self.scores_labels and self.task.many:
            sets = self.label_scores(batch, EnergyScore(), best_only=False)
            assert isinstance(sets, SetScores)
            return self._set_predictions(sets)
        scores, names = self._score_batch(batch), self.task.label_names
        result = judge(self.calibration, scores.log_probs, scores.energies, scores.best)
        labels = names if self.scores_labels else ()
        rows = zip(scores.texts, result.probabilities, scores.best.tolist(), scores.energies.tolist(), strict=True)
        predictions = [
            Prediction(text, labels, p if labels else (), probability=p[i], energy=energy)
            for text, p, i, energy in rows
        ]
        if result.known is not None:
            for prediction, known in zip(predictions, result.known.tolist(), strict=True):
                prediction.known = known
        if result.label_sets is not None:
            for prediction, members in zip(predictions, result.label_sets, strict=True):
                prediction.label_set = [names[i] for i in members.nonzero()[0]]
        return predictions

    def calibrate(
        self,
        rows: Sequence[Sample],
        promise: Literal["selective", "conformal"] = "selective",
        level: float = 0.95,
        confidence: float = 0.9,
        score: Literal["energy", "probability"] | None = None,
        lowest_level: float | None = None,
        *,
        source: Literal["probe", "rows"] = "rows",
        batch_size: int = 32,
    ) -> dict[str, Any]:
        """Fits temperature and threshold to labelled rows; later predictions have them.

        A label is right if it is the row's. A text is right if the task's first metric gives it full marks; its
        probability has no temperature.

        Args:
            rows: Labelled rows, as the student will meet them, that it was not trained on.
            promise: ``selective``: of the answers given, at least ``level`` are right, with ``confidence``.
                ``conformal``: a set of labels holds the right one with probability ``level``.
            level: The promised share.
            confidence: Probability with which a selective promise is kept.
            score: Order of inputs from known to unknown, ``energy`` or ``probability``; ``energy`` by default if the
                promise is selective.
            lowest_level: If the rows do not allow a selective promise of ``level``, it falls back to the strictest that
                they allow of 0.95, 0.9, 0.85, ... and this one; no lower promise by default.
            source: Origin of the labels: ``rows`` if they are right, ``probe`` if they are the generator's.
            batch_size: Rows in a batch.

        Returns:
            The calibration with its measures, as :func:`gold_lightning.calibration.fitting.fit_calibration` returns
            it; also :attr:`calibration` from now on.

        Raises:
            GoldError: There are too few rows, or the promise does not suit the task.

        Example:
            >>> import gold_lightning as gl
            >>> student = gl.load("runs/tickets/a/student")  # doctest: +SKIP
            >>> calibration = student.calibrate(rows, level=0.9)  # doctest: +SKIP
            >>> student.predict("Where is my parcel?").known  # doctest: +SKIP
            True
        """
        from gold_lightning.calibration.fitting import CalibrationSettings
        from gold_lightning.t5.calibrating import calibrate  # takes a second to import, for predicting as well

        settings = CalibrationSettings(promise, level, confidence, score, lowest_level)
        return calibrate(self, rows, settings, source, batch_size)

    def scores(self, texts: Iterable[Text], batch_size: int = 32) -> Iterator[RowScores]:
        """Yields the scores of each text, in order, without the calibration.

        Args:
            texts: The texts, as for :meth:`predict`.
            batch_size: Texts in a batch.
        """
        return self._by_length(texts, batch_size, lambda batch: self._score_batch(batch).rows())

    @overload
    def predict(self, texts: Text, batch_size: int = 32) -> Prediction: ...  # type: ignore[overload-overlap]
    @overload
    def predict(self, texts: Sequence[Text], batch_size: int = 32) -> list[Prediction]: ...
    @overload
    def predict(self, texts: Iterator[Text], batch_size: int = 32) -> Iterator[Prediction]: ...
    @overload
    def predict(self, texts: Iterable[Text], batch_size: int = 32) -> list[Prediction] | Iterator[Prediction]: ...

    def predict(
        self, texts: Text | Iterable[Text], batch_size: int = 32
    ) -> Prediction | list[Prediction] | Iterator[Prediction]:
        """Predicts the label of each text, or the output text of a task without labels.

        Texts of similar length are computed together; predictions come in the order of the texts.

        Args:
            texts: One text or several. A text is a string if the task has one field, otherwise a mapping from each
                field's name to its text. Further keys of a mapping are ignored.
            batch_size: Texts in a batch.

        Returns:
            A prediction for one text, a list for several. For an iterator, such as a generator of rows, an iterator,
            which holds no more than 64 batches at a time.

        Raises:
            GoldError: There is no text, or one lacks a field of the task.

        Example:
            >>> from gold_lightning.student import T5Student
            >>> student = T5Student("news_topics")
            >>> student.predict("The striker scored twice.")
            'Sports'
            >>> max(student.predict("The striker scored twice.").probabilities)
            'World'
        """
        if isinstance(texts, str | Mapping):
            return next(self._by_length([texts], batch_size, self.predict_batch))
        if isinstance(got := cast(object, texts), bytes) or not isinstance(got, Iterable):
            raise GoldError(f"predict: got {texts!r:.80}, expected a text, a mapping of fields, or several of them")
        predictions = self._by_length(texts, batch_size, self.predict_batch)
        return predictions if isinstance(texts, Iterator) else list(predictions)

    def _by_length(
        self, texts: Iterable[Text], batch_size: int, compute: Callable[[dict[str, Any]], list[_T]]
    ) -> Iterator[_T]:
        """Yields a value for each text, in order; texts of similar length are computed together."""
        rest = iter(texts)
        while window := list(islice(rest, _WINDOW * batch_size)):
            samples = [Sample(fields_of(self.task, text), "") for text in window]
            order = sorted(range(len(samples)), key=lambda i: sum(map(len, samples[i].fields.values())))
            values: dict[int, _T] = {}
            with evaluation_mode(self.model):
                for start in range(0, len(order), batch_size):
                    places = order[start : start + batch_size]
                    inputs = encode_inputs([samples[i] for i in places], self.task, self.tokenizer)
                    batch = {name: tensor.to(self.model.device) for name, tensor in inputs.items()}
                    values |= zip(places, compute(batch), strict=True)
            yield from (values[i] for i in range(len(samples)))

    @cached_property
    def label_tree(self) -> LabelTree:
        """The tokens of the task's labels.

        Raises:
            GoldError: The task has no labels, or several a row.
        """
        if not self.task.one_label:
            raise GoldError("expected a task with one label a row")
        sequences = [self._encode_text(self.task.student_target(name)) for name in self.task.label_names]
        start: Any = self.model.config.decoder_start_token_id
        return LabelTree(sequences, int(start))

    def _set_predictions(self, scores: SetScores) -> list[Prediction]:
        assert scores.energies is not None
        names, probabilities = self.task.label_names, scores.labels.cpu().numpy()
        log_probs, energies = scores.log_probs.cpu().numpy(), scores.energies.cpu().numpy()
        known = judge(self.calibration, log_probs[:, None], energies).known
        return [
            Prediction(
                self._sets.text(labels),
                names,
                probabilities[i],
                probability=math.exp(log_probs[i]),
                energy=energies[i],
                known=None if known is None else known[i],
                chosen=[names[label] for label in labels],
                energies=list(scores.label_energies[i].values()),
            )
            for i, labels in enumerate(scores.sets)
        ]

    @cached_property
    def _sets(self) -> SetTokens:
        return SetTokens(self.task, self._encode_text)

    def _in_order(self, answer: str) -> str:
        """Returns a set of labels as the task writes it; any other text as it is."""
        assert self.task.many is not None
        aliases = {answer_of(self.task, text).casefold(): name for text, name in self._readable.items()}
        labels = self.task.many.read(answer, self.task.label_names, aliases)
        return answer if labels is None else self.task.many.text(labels, self.task.label_names)

    @cached_property
    def _readable(self) -> dict[str, str]:
        """The labels by their text: a tokenizer may not give a label back as it was, if only by a space."""
        targets = {name: self.task.student_target(name) for name in self.task.label_names}
        decoded = {
            name: self.tokenizer.decode(self._encode_text(t), skip_special_tokens=True) for name, t in targets.items()
        }
        return {str(text).strip(): name for name, text in decoded.items()}

    def _encode_text(self, text: str) -> list[int]:
        tokens: list[int] = self.tokenizer(target_text(self.tokenizer, text)).input_ids
        return tokens


class SavedStudent(Inference):
    """A student loaded from its folder, to predict alone.

    Args:
        folder: The folder that a run leaves.
        task: The task, for a folder that carries none.
        device: Device of the model.

    Raises:
        GoldError: The folder carries no task or no student.

    Example:
        >>> student = SavedStudent("runs/tickets/a/student")  # doctest: +SKIP
        >>> student.predict("Where is my parcel?").probability  # doctest: +SKIP
        0.97
    """

    def __init__(self, folder: str | Path, task: TaskSource | None = None, device: str = "cpu") -> None:
        path = Path(expand("student", str(folder)))
        loaded, decoding = (Task.load(task), {}) if task is not None else load_folder_task(path)
        self.task = loaded
        self.calibration = load_calibration(path) if task is None else None  # of the folder's own labels
        self.num_beams = int(decoding.get("num_beams", 1))
        self.constrained_decoding = bool(decoding.get("constrained_decoding", True))
        self.tokenizer = load_tokenizer(str(folder), "student")
        self.model = load_model(str(folder), "student").train(False)
        self.model.to(torch.device(device))  # type: ignore[arg-type]
