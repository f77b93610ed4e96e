"""Pre-trains the embedded student: a small plain T5 that learns from a sentence encoder.

    python recipes/student/pretrain.py --config recipes/student/config.yaml

A dense teacher (all-MiniLM-L6-v2) gives the student its layers (start.py) and reads the same text as it. Three things
are learnt from it at every piece: the encoder's state of each word; the decoder's first state, from which the teacher's
sentence vector can be read; and the decoder's first distribution over the vocabulary, which becomes the teacher's
likeness of the text to each word. Every fifth batch holds text-to-text tasks instead (span corruption, going on with a
text, gaps, arithmetic).
README.md beside this file says why. The same command goes on where it stopped; `trainer.*` takes any Trainer
argument, so a GPU or DDP needs nothing else.
"""

from __future__ import annotations

import json
import logging
import random
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from gold_lightning.backbone import build_tokenizer
from gold_lightning.callbacks import RunCSVLogger
from gold_lightning.generators.embedded import embedded_folder
from jsonargparse import ArgumentParser
from lightning.pytorch import Callback, LightningModule, Trainer, seed_everything
from lightning.pytorch.callbacks import ModelCheckpoint
from safetensors.torch import load_file, save_file
from start import copy_encoder, read_out, student_config
from text import Source, pieces, text_to_text
from torch import Tensor, nn
from torch.utils.data import DataLoader, IterableDataset
from transformers import AutoModel, AutoTokenizer, T5ForConditionalGeneration

_log = logging.getLogger(__name__)
_PREFIXES = "topic subject category label classify sentence text review question what kind task about section".split()


@dataclass
class Shape:
    """Of the student. All widths are the teacher's.

    Args:
        vocab_size: Tokens, sentinels included.
        layers: The teacher's layers that the encoder's begin as.
        decoder_layers: How many; they begin small.
    """

    vocab_size: int = 16384
    layers: tuple[int, ...] = (0, 1, 2, 3, 4, 5)
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
        max_words: Longest piece of text.
        batch_tokens: Student tokens in a batch, roughly.
        lr: Peak learning rate.
        warmup: Steps.
        tasks_every: Every how many batches one holds text-to-text tasks.
        temperature: Of the teacher's likeness of text and word.
        weights: Of the losses: word states, sentence vector, words, text to text.
        heldout: Pieces that are never trained on.
        save_every: Steps between checkpoints.
        seed: Of everything.
        trainer: Arguments of Lightning's Trainer.
    """

    work: Path
    teacher: Path
    sources: list[Source]
    exclude: Path | None = None
    shape: Shape = field(default_factory=Shape)
    max_words: int = 48
    batch_tokens: int = 2048
    lr: float = 5e-4
    warmup: int = 100
    tasks_every: int = 5
    temperature: float = 0.05
    weights: tuple[float, float, float, float] = (2.0, 4.0, 1.0, 0.25)
    heldout: int = 512
    save_every: int = 200
    seed: int = 1
    trainer: dict[str, Any] = field(default_factory=dict)


class Teacher:
    """The sentence encoder: states of words and vectors of texts."""

    def __init__(self, folder: Path) -> None:
        self.tokenizer = AutoTokenizer.from_pretrained(folder)
        self.model = AutoModel.from_pretrained(folder, dtype=torch.float32).eval().requires_grad_(False)

    @torch.no_grad()
    def read(self, texts: list[str]) -> tuple[Tensor, Tensor, Tensor]:
        """States (batch, tokens, width), word of each token or -1 (batch, tokens), mean states (batch, width)."""
        read = self.tokenizer(texts, padding=True, return_offsets_mapping=True, return_special_tokens_mask=True)
        ids, mask = torch.tensor(read["input_ids"]), torch.tensor(read["attention_mask"])
        device = self.model.device
        with torch.autocast(device.type, torch.bfloat16):
            out = self.model(input_ids=ids.to(device), attention_mask=mask.to(device))
        states = out.last_hidden_state.float()
        where = mask.to(states.device)[..., None]
        words = [
            _words(t, o, s) for t, o, s in zip(texts, read["offset_mapping"], read["special_tokens_mask"], strict=True)
        ]
        return states, torch.tensor(words, device=states.device), (states * where).sum(1) / where.sum(1)

    def vectors(self, texts: list[str], batch: int = 256) -> Tensor:
        order = sorted(range(len(texts)), key=lambda i: len(texts[i]))
        out = torch.zeros(len(texts), self.model.config.hidden_size)
        for at in range(0, len(order), batch):
            part = order[at : at + batch]
            out[part] = self.read([texts[i] for i in part])[2].cpu()
        return out


def _words(text: str, offsets: list[tuple[int, int]], special: list[int], skip: int = 0) -> list[int]:
    """The word (between spaces) that each token ends in; -1 for special tokens and the first ``skip`` characters."""
    at, word_of = -1, []
    before = " "
    for char in text:
        at += before == " " and char != " "
        word_of.append(at)
        before = char
    first = word_of[skip] if skip < len(word_of) else 0
    return [
        -1 if s or end == start or end <= skip else word_of[end - 1] - first
        for (start, end), s in zip(offsets, special, strict=True)
    ]


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
    kept = build_tokenizer(embedded_folder(), part, shape.vocab_size)
    tokenizer = AutoTokenizer.from_pretrained(part)
    teacher = Teacher(settings.teacher)
    strings = [tokenizer.decode([3 + i]).strip() for i in range(len(kept))]
    known = {w for t in texts for w in t.lower().split()}
    word = [s.isascii() and s.isalpha() and len(s) > 2 and s.lower() in known for s in strings]
    ids = torch.tensor([3 + i for i, w in enumerate(word) if w])
    distinct = sorted({strings[int(i) - 3].lower() for i in ids})
    vectors = dict(zip(distinct, teacher.vectors(distinct), strict=True))
    words = torch.stack([vectors[strings[int(i) - 3].lower()] for i in ids])
    words = F.normalize(words - words.mean(0), dim=1)
    means = teacher.vectors(texts[:2048])

    torch.manual_seed(settings.seed)
    config = student_config(teacher.model.config, shape.vocab_size, len(shape.layers), shape.decoder_layers)
    model = T5ForConditionalGeneration(config)
    one = copy_encoder(model, teacher.model, teacher.tokenizer, tokenizer, texts[:400], shape.layers)
    project = read_out(model, words, ids, means, one)
    model.save_pretrained(part)
    targets = {"ids": ids, "words": words, "text_mean": means.mean(0), "project": project}
    save_file({k: v.contiguous() for k, v in targets.items()}, part / "targets.safetensors")
    part.rename(folder)
    _log.info("%d tokens, of which %d are words that the teacher is asked about", shape.vocab_size, len(ids))


# Training


class Batches(IterableDataset):
    """Batches without end. Each is a function of its number, so that a stopped run goes on with the next one."""

    def __init__(self, texts: list[str], settings: Settings, module: Pretraining) -> None:
        self.texts, self.settings, self.module = texts, settings, module
        self._epoch: tuple[int, list[list[int]]] = (-1, [])

    def __iter__(self) -> Iterator[dict[str, Any]]:
        trainer = self.module.trainer
        step = trainer.global_step
        while True:
            yield self.batch(step * trainer.world_size + trainer.global_rank)
            step += 1

    def batch(self, number: int) -> dict[str, Any]:
        chunks = self._chunks(0)
        epoch, at = divmod(number, len(chunks))
        texts = [self.texts[i] for i in self._chunks(epoch)[at]]
        luck = random.Random(f"{self.settings.seed} {number}")
        if number % self.settings.tasks_every == self.settings.tasks_every - 1:
            # Half as many texts: these batches are wider, and pay for logits at every target token.
            made = [text_to_text(luck, t, luck.choice(texts)) for t in texts[::2]]
            return {"sources": [m.source for m in made], "targets": [m.target for m in made]}
        return {"texts": texts, "prefixes": [_prefix(luck) for _ in texts]}

    def _chunks(self, epoch: int) -> list[list[int]]:
        """Batches of about ``batch_tokens`` tokens, of texts of about one length."""
        if self._epoch[0] != epoch:
            order = list(range(len(self.texts)))
            random.Random(f"{self.settings.seed} {epoch}").shuffle(order)
            made = []
            for start in range(0, len(order) - 4095, 4096):
                window = sorted(order[start : start + 4096], key=lambda i: len(self.texts[i]))
                while window:
                    longest, size = 1, 0
                    for i in window:  # 4 characters a token, and a few for prefix and end
                        longest = max(longest, len(self.texts[i]) // 4 + 3)
                        if longest * (size + 1) > self.settings.batch_tokens:
                            break
                        size += 1
                    size = max(1, min(size, 256))
                    made.append(window[:size])
                    window = window[size:]
            random.Random(f"{self.settings.seed} {epoch} order").shuffle(made)
            if epoch:  # every epoch has as many batches as the first
                first = len(Batches(self.texts, self.settings, self.module)._chunks(0))
                made = (made * 2)[:first]
            self._epoch = (epoch, made)
        return self._epoch[1]


def _prefix(luck: random.Random) -> str:
    """Nothing, or words and a colon, as a task's input template puts before a text."""
    if luck.random() < 0.4:
        return ""
    return " ".join(luck.sample(_PREFIXES, luck.choice((1, 1, 2, 3)))) + ": "


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

    def setup(self, stage: str) -> None:
        self._teacher[0].model.to(self.device)

    def training_step(self, batch: dict[str, Any], batch_idx: int) -> Tensor:
        if "sources" in batch:
            loss = self.settings.weights[3] * (made := self.text_to_text(batch["sources"], batch["targets"]))
            self.log("train/text_to_text", made, batch_size=1)
            return loss
        state, sentence, words = self.dense(batch["texts"], batch["prefixes"])
        self.log_dict({"train/state": state, "train/sentence": sentence, "train/words": words}, batch_size=1)
        a, b, c, _ = self.settings.weights
        return a * state + b * sentence + c * words

    def dense(self, texts: list[str], prefixes: list[str]) -> tuple[Tensor, Tensor, Tensor]:
        """What the teacher says about each text: 1 - cosine of states and of vectors, divergence of words (nats)."""
        states, teacher_words, vectors = self._teacher[0].read(texts)
        vectors = F.normalize(vectors - self.text_mean, dim=-1)
        sources = [p + t for p, t in zip(prefixes, texts, strict=True)]
        read = self.tokenizer(sources, padding=True, return_offsets_mapping=True, return_special_tokens_mask=True)
        own = [
            _words(s, o, m, len(p))
            for s, o, m, p in zip(sources, read["offset_mapping"], read["special_tokens_mask"], prefixes, strict=True)
        ]
        student_words = torch.tensor(own, device=self.device)
        out = self.model(
            input_ids=torch.tensor(read["input_ids"], device=self.device),
            attention_mask=torch.tensor(read["attention_mask"], device=self.device),
            decoder_input_ids=torch.zeros(len(texts), 1, dtype=torch.long, device=self.device),
            output_hidden_states=True,
            use_cache=False,
        )
        count = int(max(student_words.max(), teacher_words.max())) + 1
        wanted, has = word_means(states - self.text_mean, teacher_words, count)
        given, had = word_means(out.encoder_last_hidden_state.float() - self.text_mean, student_words, count)
        state = 1 - F.cosine_similarity(given, wanted, dim=-1)[has & had].mean()
        sentence = self.project(out.decoder_hidden_states[-1][:, 0]).float()
        sentence_loss = 1 - F.cosine_similarity(sentence, vectors, dim=-1).mean()
        likeness = torch.log_softmax(vectors @ self.words.T / self.settings.temperature, -1)
        log_p = torch.log_softmax(out.logits[:, 0].float(), -1)[:, self.ids]
        return state, sentence_loss, (likeness.exp() * (likeness - log_p)).sum(-1).mean()

    def text_to_text(self, sources: list[str], targets: list[str]) -> Tensor:
        """Cross-entropy of the targets' tokens, nats."""
        read = self.tokenizer(sources, padding=True, truncation=True, max_length=160, return_tensors="pt")
        asked = self.tokenizer(targets, padding=True, truncation=True, max_length=40, return_tensors="pt").input_ids
        labels = asked.masked_fill(asked == 0, -100)
        out = self.model(
            input_ids=read.input_ids.to(self.device),
            attention_mask=read.attention_mask.to(self.device),
            labels=labels.to(self.device),
            use_cache=False,
        )
        return out.loss

    def validation_step(self, batch: list[str], batch_idx: int) -> None:
        state, sentence, words = self.dense(batch, [""] * len(batch))
        luck = random.Random(batch_idx)
        made = [text_to_text(luck, t, luck.choice(batch)) for t in batch]
        loss = self.text_to_text([m.source for m in made], [m.target for m in made])
        named = {"val/state": state, "val/sentence": sentence, "val/words": words, "val/text_to_text": loss}
        self.log_dict(named, batch_size=len(batch), sync_dist=True)

    def val_dataloader(self) -> DataLoader[Any]:
        return DataLoader(self.heldout, batch_size=64, collate_fn=list)  # type: ignore[arg-type]

    def configure_gradient_clipping(self, optimizer: Any, gradient_clip_val: Any = None, **_: Any) -> None:
        # Lightning refuses fused optimizers here, for the sake of a gradient scaler; bfloat16 has none.
        nn.utils.clip_grad_norm_(self.parameters(), gradient_clip_val)

    def configure_optimizers(self) -> dict[str, Any]:
        optimizer = torch.optim.AdamW(
            self.parameters(), lr=self.settings.lr, weight_decay=0.01, betas=(0.9, 0.98), fused=True
        )
        warmup, steps = self.settings.warmup, self.trainer.max_steps

        def factor(step: int) -> float:
            return min((step + 1) / warmup, max(0.02, (steps - step) / max(1, steps - warmup)))

        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, factor)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}


def prepare(settings: Settings) -> list[str]:
    """The pieces of text, cut once and kept in ``work/pieces.json``."""
    file = settings.work / "pieces.json"
    if not file.exists():
        texts, left_out = pieces(settings.sources, settings.exclude, settings.max_words, settings.seed)
        _log.info("%d pieces; %d paragraphs left out for words of evaluation rows", len(texts), left_out)
        settings.work.mkdir(parents=True, exist_ok=True)
        part = file.with_suffix(".part")
        part.write_text(json.dumps(texts, ensure_ascii=False), encoding="utf-8")
        part.rename(file)
    return list(json.loads(file.read_text(encoding="utf-8")))


def export(module: Pretraining, folder: Path) -> None:
    """Writes the student as bfloat16 safetensors, with its tokenizer."""
    module.model.to(torch.bfloat16).save_pretrained(folder)
    module.tokenizer.save_pretrained(folder)
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
        **settings.trainer,
    )
    loader = DataLoader(Batches(texts, settings, module), batch_size=None)
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
