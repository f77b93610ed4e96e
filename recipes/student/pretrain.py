"""Pre-trains the embedded student: a small plain T5 that learns from a sentence encoder.

    python recipes/student/pretrain.py --config recipes/student/four_layers.yaml

A dense teacher (all-MiniLM-L6-v2) gives the student its layers (start.py) and reads the same text as it. The student
learns from it the encoder's state of each word, the text's vector (by the encoder's mean state and the decoder's first
one) and how like the text is to the others of its batch and to each word of the vocabulary. Every few batches one holds
text-to-text tasks instead (span corruption, going on with a text, gaps, arithmetic).
README.md beside this file says why. The same command goes on where it stopped; `trainer.*` takes any Trainer
argument, so a GPU or DDP needs nothing else.
"""

from __future__ import annotations

import json
import logging
import math
import random
import shutil
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from batching import Batches
from gold_lightning.generators.embedded import embedded_folder
from gold_lightning.watching.loggers import RunCSVLogger
from jsonargparse import ArgumentParser
from lightning.pytorch import Callback, LightningModule, Trainer, seed_everything
from lightning.pytorch.callbacks import ModelCheckpoint
from safetensors.torch import load_file, save_file
from sentences import read_words, sentences
from start import copy_encoder, fit_read_out, grow, read_out, student_config
from text import Source, pieces, text_to_text
from tokenizer import build_tokenizer
from torch import Tensor, nn
from torch.utils.data import DataLoader
from transformers import AutoModel, AutoTokenizer, PreTrainedTokenizerBase, T5ForConditionalGeneration
from vocabulary import word_forms

_log = logging.getLogger(__name__)
_DENSE = ("state", "sentence", "words", "whole", "texts")


@dataclass
class Shape:
    """Of the student. All widths are the teacher's.

    Args:
        vocab_size: Tokens, sentinels included.
        merges: How many merges of the generator's tokenizer are kept at most; the rest of the vocabulary are words.
        layers: The teacher's layers that the encoder's begin as.
        decoder_layers: How many; they begin small.
    """

    vocab_size: int = 25600
    merges: int = 3000
    layers: tuple[int, ...] = (0, 1, 4, 5)
    decoder_layers: int = 1


@dataclass
class Settings:
    """Everything that a run depends on.

    Args:
        work: Folder for pieces, first weights, checkpoints, log and the result.
        teacher: Folder of the sentence encoder.
        sources: Text to learn from.
        exclude: Folder of evaluation rows to keep out of the text.
        shape: Of the student.
        begin: Folder of a student to go on from, in place of the teacher's layers and ``shape``.
        begin_layers: The teacher's layers that those of ``begin`` began as, if the encoder grows to ``shape.layers``.
        grow_share: How much of their output the new layers add at first, from 0 to 1.
        max_words: Longest piece of text.
        batch_tokens: Student tokens in a batch of each process, roughly.
        batch_texts: Most texts in a batch.
        lr: Peak learning rate.
        warmup: Steps over which it rises.
        fall: Over which share of all steps it falls at the end.
        steps: How many in all; ``trainer.max_steps`` may end a run earlier, on the same schedule.
        minutes: In place of ``steps``: how long training takes in all its sittings. The steps are counted out when
            it begins to fall, and told, so that ``steps`` gives the same run again.
        workers: Processes of each training process that make batches; 0 makes them between the steps.
        tasks_every: Every how many batches one holds text-to-text tasks.
        exchange: In how many of the other batches' pieces, from 0 to 1, a third of the words give way to words of the
            teacher's vocabulary.
        recase: In how many of the other batches' pieces, from 0 to 1, the case of letters is another one, as in titles.
        temperature: Of the teacher's likeness of text and word.
        templates: How many sentences of ``templates.yaml`` there are besides the sources, one of which is WordNet.
        weights: Of the losses: word states, sentence vector, words, text to text, the encoder's mean state, texts.
        heldout: Pieces that are never trained on.
        save_every: Steps between checkpoints.
        seed: Of everything.
        compile: Whether student and teacher are compiled (``torch.compile``): two minutes, and a C++ compiler.
        trainer: Arguments of Lightning's Trainer.
    """

    work: Path
    teacher: Path
    sources: list[Source]
    exclude: Path | None = None
    shape: Shape = field(default_factory=Shape)
    begin: Path | None = None
    begin_layers: tuple[int, ...] = ()
    grow_share: float = 0.1
    max_words: int = 48
    batch_tokens: int = 2048
    batch_texts: int = 256
    lr: float = 5e-4
    warmup: int = 100
    fall: float = 0.2
    steps: int = 1400
    minutes: float | None = None
    workers: int = 0
    tasks_every: int = 5
    exchange: float = 0.0
    recase: float = 0.0
    temperature: float = 0.05
    weights: tuple[float, float, float, float, float, float] = (2.0, 4.0, 1.0, 0.25, 2.0, 0.5)
    templates: int = 0
    heldout: int = 512
    save_every: int = 200
    seed: int = 1
    compile: bool = False
    trainer: dict[str, Any] = field(default_factory=dict)


class Teacher:
    """The sentence encoder: states of words and vectors of texts."""

    def __init__(self, folder: Path) -> None:
        self.tokenizer = AutoTokenizer.from_pretrained(folder)
        self.model = AutoModel.from_pretrained(folder, dtype=torch.float32).eval().requires_grad_(False)

    @torch.no_grad()
    def read(self, ids: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """States (batch, tokens, width) and mean states (batch, width) of tokens, float32."""
        states = self.model(input_ids=ids, attention_mask=mask).last_hidden_state.float()
        where = mask[..., None]
        return states, (states * where).sum(1) / where.sum(1)

    def vectors(self, texts: list[str], batch: int = 256) -> Tensor:
        order = sorted(range(len(texts)), key=lambda i: len(texts[i]))
        out = torch.zeros(len(texts), self.model.config.hidden_size)
        for at in range(0, len(order), batch):
            part = order[at : at + batch]
            read = self.tokenizer([texts[i] for i in part], padding=True, return_tensors="pt").to(self.model.device)
            out[part] = self.read(read.input_ids, read.attention_mask)[1].cpu()
        return out


def word_means(states: Tensor, words: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """Mean state of each word: (batch, count, width), and which words have tokens, (batch, count) bool."""
    hot = F.one_hot(words.clamp(min=0), count).to(states.dtype) * (words >= 0)[..., None]
    sizes = hot.sum(1)
    return hot.transpose(1, 2) @ states / sizes.clamp(min=1)[..., None], sizes > 0


# First weights


def init(settings: Settings, texts: list[str]) -> None:
    """Writes ``work/init``: tokenizer, T5, and the teacher's vectors of the vocabulary's words. See ``start.py``."""
    folder = settings.work / "init"
    part = settings.work / "init.part"
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir(parents=True)
    shape = settings.shape
    teacher = Teacher(settings.teacher)
    teacher.model.to("cuda" if torch.cuda.is_available() else "cpu")
    if settings.begin is None:
        forms = word_forms(teacher.tokenizer.get_vocab(), texts)
        build_tokenizer(embedded_folder(), part, shape.vocab_size, forms, shape.merges)
    else:
        AutoTokenizer.from_pretrained(settings.begin).save_pretrained(part)
    tokenizer = AutoTokenizer.from_pretrained(part)
    strings = tokenizer.batch_decode([[i] for i in range(len(tokenizer))])
    known = {w for t in texts for w in t.lower().split()} | set(teacher.tokenizer.get_vocab())
    # A scrap may happen to be a word too; one after a space is meant as it.
    own = {i: s[1:].lower() for i, s in enumerate(strings) if s[:1] == " " and s.isascii() and s[1:].isalpha()}
    own = {i: s for i, s in own.items() if len(s) > 2 and s in known}
    ids = torch.tensor(list(own))
    distinct = sorted(set(own.values()))
    vectors = dict(zip(distinct, teacher.vectors(distinct), strict=True))
    words = torch.stack([vectors[s] for s in own.values()])
    words = F.normalize(words - words.mean(0), dim=1)
    means = teacher.vectors(texts[:2048])

    if settings.begin is None:
        torch.manual_seed(settings.seed)
        config = student_config(teacher.model.config, shape.vocab_size, len(shape.layers), shape.decoder_layers)
        model = T5ForConditionalGeneration(config)
        one = copy_encoder(model, teacher.model, teacher.tokenizer, tokenizer, texts[:400], shape.layers)
        project = read_out(model, words, ids, means, one)
    else:
        model = T5ForConditionalGeneration.from_pretrained(settings.begin, dtype=torch.float32)
        if settings.begin_layers:
            smaller, config = (
                model,
                student_config(
                    teacher.model.config, len(tokenizer), len(shape.layers), model.config.num_decoder_layers
                ),
            )
            torch.manual_seed(settings.seed)
            model = T5ForConditionalGeneration(config)
            copy_encoder(model, teacher.model, teacher.tokenizer, tokenizer, texts[:400], shape.layers)
            grow(model, smaller, shape.layers, settings.begin_layers, settings.grow_share)
        project = fit_read_out(model, tokenizer, texts[:2048], means)
    model.save_pretrained(part)
    targets = {"ids": ids, "words": words, "text_mean": means.mean(0), "project": project}
    save_file({k: v.contiguous() for k, v in targets.items()}, part / "targets.safetensors")
    part.rename(folder)
    _log.info("%d tokens, of which %d are words that the teacher is asked about", len(tokenizer), len(ids))


# Training


def _text_divergence(given: Tensor, wanted: Tensor, temperature: float = 0.05) -> Tensor:
    """Divergence (nats) of each text's likeness to all texts of the batch, by given and by the teacher's vectors."""
    likeness = torch.log_softmax(wanted @ wanted.T / temperature, -1)
    own = torch.log_softmax(F.normalize(given, dim=-1) @ wanted.T / temperature, -1)
    return (likeness.exp() * (likeness - own)).sum(-1).mean()


class Pretraining(LightningModule):
    """Student, teacher and the four losses."""

    def __init__(self, settings: Settings, heldout: list[str]) -> None:
        super().__init__()
        self.settings, self.heldout = settings, heldout
        folder = settings.work / "init"
        self.tokenizer = AutoTokenizer.from_pretrained(folder)
        self.model = T5ForConditionalGeneration.from_pretrained(folder, dtype=torch.float32).train()
        targets = load_file(folder / "targets.safetensors")
        # The decoder's states live among the embeddings, so that they can name words; this is what makes them the
        # teacher's sentence vectors. It is learnt too, and does not leave with the student.
        self.project = nn.Linear(*targets["project"].shape, bias=False)
        self.project.weight.data.copy_(targets.pop("project"))
        for name, value in targets.items():
            self.register_buffer(name, value, persistent=False)
        self._teacher = [Teacher(settings.teacher)]  # in a list: no part of the state
        self.steps = settings.steps if settings.minutes is None else None  # not known yet
        self._seconds, self._since = 0.0, 0.0

    @property
    def tokenizers(self) -> tuple[PreTrainedTokenizerBase, PreTrainedTokenizerBase]:
        return self.tokenizer, self._teacher[0].tokenizer

    def setup(self, stage: str) -> None:
        self._teacher[0].model.to(self.device)

    def compile_encoders(self) -> None:
        """Compiles the student's encoder and the teacher, for texts of any length."""
        for model in (self.model.encoder, self._teacher[0].model):
            model.forward = torch.compile(model.forward, dynamic=True)

    # How long

    def on_train_start(self) -> None:
        self._since = time.perf_counter()

    def on_train_batch_start(self, batch: Any, batch_idx: int) -> None:
        step = self.trainer.global_step
        if self.steps is None and step and step % 25 == 0:
            high = 1 - self.settings.fall
            late = self.seconds() > 60 * high * (self.settings.minutes or 0)
            if self.trainer.strategy.broadcast(late):
                self.steps = math.ceil(step / high)
                _log.info("step %d: the learning rate falls from here; steps: %d", step, self.steps)

    def on_train_batch_end(self, outputs: Any, batch: Any, batch_idx: int) -> None:
        if self.steps is not None and self.trainer.global_step >= self.steps:
            self.trainer.should_stop = True

    def seconds(self) -> float:
        """Of training so far."""
        return self._seconds + time.perf_counter() - self._since

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        checkpoint["schedule"] = {"steps": self.steps, "seconds": self.seconds()}

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        self._seconds = checkpoint["schedule"]["seconds"]
        if self.settings.minutes is not None:
            self.steps = checkpoint["schedule"]["steps"]

    # Losses

    def training_step(self, batch: dict[str, Any], batch_idx: int) -> Tensor:
        self.log("train/lr", self.optimizers().param_groups[0]["lr"], batch_size=1)
        if "labels" in batch:
            made = self.text_to_text(batch)
            self.log("train/text_to_text", made, batch_size=1)
            return self.settings.weights[3] * made
        losses = dict(zip(_DENSE, self.dense(batch), strict=True))
        self.log_dict({f"train/{name}": loss for name, loss in losses.items()}, batch_size=1)
        a, b, c, _, d, e = self.settings.weights
        return sum(weight * loss for weight, loss in zip((a, b, c, d, e), losses.values(), strict=True))

    def dense(self, batch: dict[str, Any]) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
        """The losses against the teacher's reading of each text.

        Returns:
            1 - cosine of word states, 1 - cosine of sentence vectors by the decoder's first state, divergence of words
            (nats), 1 - cosine of sentence vectors by the encoder's mean state, divergence of texts (nats).
        """
        states, vectors = self._teacher[0].read(batch["teacher_ids"], batch["teacher_mask"])
        vectors = F.normalize(vectors - self.text_mean, dim=-1)
        out = self.model(
            input_ids=batch["ids"],
            attention_mask=batch["mask"],
            decoder_input_ids=torch.zeros_like(batch["ids"][:, :1]),
            output_hidden_states=True,
            use_cache=False,
        )
        with torch.autocast(self.device.type, enabled=False):  # cosines over a small temperature want their digits
            wanted, has = word_means(states - self.text_mean, batch["teacher_words"], batch["count"])
            read = out.encoder_last_hidden_state.float() - self.text_mean
            given, had = word_means(read, batch["words"], batch["count"])
            both = (has & had).float()
            state = ((1 - F.cosine_similarity(given, wanted, dim=-1)) * both).sum() / both.sum()
            sentence = self.project(out.decoder_hidden_states[-1][:, 0].float())
            sentence_loss = 1 - F.cosine_similarity(sentence, vectors, dim=-1).mean()
            inside = (batch["words"] >= 0).float()[..., None]
            whole = (read * inside).sum(1) / inside.sum(1).clamp(min=1)
            whole_loss = 1 - F.cosine_similarity(whole, vectors, dim=-1).mean()
            other = (_text_divergence(sentence, vectors) + _text_divergence(whole, vectors)) / 2
            likeness = torch.log_softmax(vectors @ self.words.T / self.settings.temperature, -1)
            given = out.logits[:, 0].float()
            wanted = torch.zeros_like(given).index_copy_(1, self.ids, likeness.exp())
            words = F.cross_entropy(given, wanted) + (likeness.exp() * likeness).sum(-1).mean()
        return state, sentence_loss, words, whole_loss, other

    def text_to_text(self, batch: dict[str, Any]) -> Tensor:
        """Cross-entropy of the targets' tokens, nats."""
        return self.model(
            input_ids=batch["ids"], attention_mask=batch["mask"], labels=batch["labels"], use_cache=False
        ).loss

    def validation_step(self, batch: dict[str, Any], batch_idx: int, dataloader_idx: int = 0) -> None:
        if "labels" in batch:
            named = {"val/text_to_text": self.text_to_text(batch)}
        else:
            named = {f"val/{name}": loss for name, loss in zip(_DENSE, self.dense(batch), strict=True)}
        self.log_dict(named, batch_size=len(batch["ids"]), sync_dist=True, add_dataloader_idx=False)

    def val_dataloader(self) -> list[DataLoader[Any]]:
        maker = Batches(self.heldout, self.settings, self.tokenizers)

        def dense(texts: list[str]) -> dict[str, Any]:
            return maker.dense(texts, [""] * len(texts))

        def tasks(texts: list[str]) -> dict[str, Any]:
            luck = random.Random(texts[0])
            return maker.tasks([text_to_text(luck, t, luck.choice(texts)) for t in texts])

        return [DataLoader(self.heldout, batch_size=64, collate_fn=made) for made in (dense, tasks)]  # type: ignore[arg-type]

    def configure_gradient_clipping(self, optimizer: Any, gradient_clip_val: Any = None, **_: Any) -> None:
        # Lightning refuses fused optimizers here, for the sake of a gradient scaler; bfloat16 has none.
        nn.utils.clip_grad_norm_(self.parameters(), gradient_clip_val)

    def configure_optimizers(self) -> dict[str, Any]:
        optimizer = torch.optim.AdamW(
            self.parameters(), lr=self.settings.lr, weight_decay=0.01, betas=(0.9, 0.98), fused=True
        )

        def factor(step: int) -> float:
            rising = (step + 1) / self.settings.warmup
            falling = 1.0 if self.steps is None else (self.steps - step) / max(1.0, self.settings.fall * self.steps)
            return min(1.0, rising, max(0.02, falling))

        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, factor)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}


def prepare(settings: Settings) -> list[str]:
    """The pieces of all sources in random order; each source's are cut once and kept in ``work/pieces``."""
    found: list[str] = []
    for source in settings.sources:
        file = settings.work / "pieces" / f"{source.path.name}.json"
        if not file.exists():
            texts, left_out = pieces([source], settings.exclude, settings.max_words, settings.seed)
            _log.info("%s: %d pieces; left out for words of evaluation rows: %d", source.path, len(texts), left_out)
            file.parent.mkdir(parents=True, exist_ok=True)
            part = file.with_suffix(".part")
            part.write_text(json.dumps(texts, ensure_ascii=False), encoding="utf-8")
            part.rename(file)
        found += json.loads(file.read_text(encoding="utf-8"))
    if settings.templates:
        file = settings.work / "pieces" / "templates.json"
        if not file.exists():
            wordnet = next(source.path for source in settings.sources if source.kind == "wordnet")
            vocabulary = AutoTokenizer.from_pretrained(settings.teacher).get_vocab()
            words = read_words(wordnet, sorted(vocabulary, key=vocabulary.__getitem__))
            texts = sentences(Path(__file__).with_name("templates.yaml"), words, settings.templates, settings.seed)
            file.write_text(json.dumps(texts), encoding="utf-8")
        found += json.loads(file.read_text(encoding="utf-8"))
    random.Random(settings.seed).shuffle(found)
    return found


def export(module: Pretraining, folder: Path) -> None:
    """Writes the student as bfloat16 safetensors, with its tokenizer."""
    module.model.to(torch.bfloat16).save_pretrained(folder)
    # Read anew: making batches has left lengths in the other one.
    AutoTokenizer.from_pretrained(module.settings.work / "init").save_pretrained(folder)
    module.model.float()


def run(settings: Settings, callbacks: Sequence[Callback] = ()) -> None:
    """Prepares what is missing, trains from where the last call stopped, and exports."""
    seed_everything(settings.seed)
    texts = prepare(settings)
    heldout, texts = texts[: settings.heldout], texts[settings.heldout :]
    known = set(heldout)
    texts = [t for t in texts if t not in known]
    if not (settings.work / "init").exists():
        init(settings, texts)
    module = Pretraining(settings, heldout)
    if settings.compile:
        module.compile_encoders()
    saving = ModelCheckpoint(
        settings.work, "last", every_n_train_steps=settings.save_every, enable_version_counter=False
    )
    trainer = Trainer(
        logger=RunCSVLogger(str(settings.work)),
        callbacks=[saving, *callbacks],
        num_sanity_val_steps=0,
        gradient_clip_val=1.0,
        default_root_dir=settings.work,
        enable_progress_bar=False,
        **({"max_steps": -1, "max_epochs": -1} | settings.trainer),
    )

    def first() -> tuple[int, int]:
        return trainer.global_step * trainer.world_size + trainer.global_rank, trainer.world_size

    batches = Batches(texts, settings, module.tokenizers, first)
    loader = DataLoader(batches, batch_size=None, num_workers=settings.workers, pin_memory=torch.cuda.is_available())
    last = settings.work / "last.ckpt"
    trainer.fit(module, loader, ckpt_path=last if last.exists() else None)
    if trainer.is_global_zero:
        export(module, settings.work / "student")
        _log.info("wrote %s", settings.work / "student")


def main() -> None:
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    parser = ArgumentParser(description=__doc__)
    parser.add_argument("--config", action="config")
    parser.add_class_arguments(Settings, as_group=False)
    given = parser.instantiate(parser.parse_args())
    run(Settings(**{name: getattr(given, name) for name in Settings.__dataclass_fields__}))


if __name__ == "__main__":
    main()
