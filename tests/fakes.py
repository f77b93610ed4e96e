"""What several tests need: a scripted news writer, a machine with two file systems, and a look at a task's demos."""

from __future__ import annotations

import errno
import os
import random
import re
import shutil
import sys
import time

import torch
from gold_lightning.checks.checker import CheckedText, Checker
from gold_lightning.errors import GoldError
from gold_lightning.feedback import FeedbackStrategy
from gold_lightning.generators import Completion, Request, ScriptedGenerator
from gold_lightning.prompts import Hint, training_request
from gold_lightning.task import Field, Hints, Label, Sample, StudentFormat, Task
from gold_lightning.wire import SampleReader, render

LLAMA_TOKENS = 320  # that the tiny Llama takes
_WORDS = {
    "World": "election embassy troops minister treaty border refugees parliament ceasefire summit protest".split(),
    "Sports": "goal coach league striker tournament innings medal championship referee playoff racket".split(),
    "Business": "shares profit merger bank stocks retailer earnings investors oil dollar factory".split(),
    "Sci/Tech": "software telescope chip browser satellite genome robot laboratory virus network orbit".split(),
}
_FILL = [f"{a}{b}" for a in "bcdfglmnprst" for b in ("alo", "erin", "ostu", "ivad", "umek")]

LABELLED = Task(
    name="pairs",
    description="Pairs of sentences.",
    fields=(Field("premise", "a sentence"), Field("claim", "another")),
    target=Field("verdict", "whether it follows"),
    demos=(
        Sample({"premise": "It rains.", "claim": "It is wet."}, "yes"),
        Sample({"premise": "It rains.", "claim": "It is dry."}, "no"),
    ),
    student=StudentFormat("{premise} {claim}", "{verdict}"),
    labels=(Label("yes", "it follows"), Label("no", "it does not")),
)
FREE = Task(
    name="summaries",
    description="Texts with summaries.",
    fields=(Field("text", "a text"), Field("text_2", "its rest")),
    target=Field("summary", "a short one"),
    demos=(Sample({"text": "A long story.", "text_2": "The end."}, "A story."),),
    student=StudentFormat("{text} {text_2}", "{summary}"),
)
ONE_FIELD = Task(
    name="topics",
    description="News.",
    fields=(Field("text", "an item"),),
    target=Field("topic", "its section"),
    demos=(Sample({"text": "Goal!"}, "Sports"), Sample({"text": "Shares fell."}, "Business")),
    student=StudentFormat("{text}", "{topic}"),
    labels=(Label("Sports", "games"), Label("Business", "money")),
)


def parse(text, task, answer=""):
    return SampleReader(task).parse(text, answer)


class NewsWriter(ScriptedGenerator):
    """Writes news items that a student can learn: words of the label among words that mean nothing.

    Args:
        junk: Share of the completions that no check lets through.
        fail_after: Raises KeyboardInterrupt when asked for more than this many completions.
        hang_after: Takes minutes when asked for more than this many completions.
        broken_process: Fails in the process of this rank.
        batch_size: How many requests it likes to get at once.
    """

    def __init__(
        self,
        junk: float = 0.2,
        fail_after: int = -1,
        hang_after: int = -1,
        broken_process: int = -1,
        batch_size: int = 16,
    ) -> None:
        super().__init__(self._write, batch_size=batch_size)
        self.junk, self.fail_after, self.hang_after = junk, fail_after, hang_after
        self.broken_process = broken_process

    def generate(self, requests):
        if torch.distributed.is_initialized():
            rank = torch.distributed.get_rank()
            print(f"{len(requests)} asked of process {rank}", file=sys.stderr, flush=True)
            if rank == self.broken_process:
                raise GoldError("no model in this process")
        asked = len(self.requests) + len(requests)
        if 0 <= self.fail_after < asked:
            raise KeyboardInterrupt
        if 0 <= self.hang_after < asked:
            time.sleep(200)
        return super().generate(requests)

    def _write(self, request: Request) -> str:
        rng = random.Random(request.seed)
        if rng.random() < self.junk:
            return rng.choice(["", " short.", " " + "word " * 200])
        label = next(name for name in _WORDS if f"topic: {name}\n" in request.answer_prefix)
        words = rng.sample(_WORDS[label], 4) + rng.sample(_FILL, 8)
        rng.shuffle(words)
        return " " + " ".join(words).capitalize() + "."


class NewsReader(NewsWriter):
    """Also says which label a text has, by its words: with a taste for the first label, and wrong at times."""

    def __init__(self, junk: float = 0.2, fail_after: int = -1, hang_after: int = -1, batch_size: int = 16) -> None:
        super().__init__(junk, fail_after, hang_after, batch_size=batch_size)
        self.log_probs = self._likelihoods

    def _likelihoods(self, request: Request) -> list[float]:
        words = set(re.findall(r"\w+", request.suffix.lower()))
        rng = random.Random(request.suffix)
        names = [choice.strip() for choice in request.choices]
        return [4.0 * (i == 0) + len(words & set(_WORDS[name])) + rng.random() - 9 for i, name in enumerate(names)]


class SteadyReader(NewsReader):
    """A reader whose texts do not depend on the size of a batch, which it says."""

    def fingerprint(self):
        return {name: value for name, value in super().fingerprint().items() if name != "batch_size"}


def real_news(count: int, seed: int = 0) -> list[dict[str, str]]:
    """News items as nobody's generator writes them, each with the words of one topic, and with that topic."""
    rng, rows = random.Random(f"real {seed}"), []
    for i in range(count):
        topic = [*_WORDS][i % len(_WORDS)]
        words = rng.sample(_WORDS[topic], 3) + [f"{rng.choice(_FILL)}{rng.choice('xyz')}" for _ in range(9)]
        rng.shuffle(words)
        rows.append({"text": f"REAL {i}: {' '.join(words)}", "topic": topic})
    return rows


class SteadyWriter(NewsWriter):
    """A writer that says what is true of it: its texts do not depend on the size of a batch."""

    def fingerprint(self):
        return {name: value for name, value in super().fingerprint().items() if name != "batch_size"}


def bank_task(count: int = 77) -> Task:
    """Intents of a bank's customers, up to 180: things that go wrong with what they have, each with a demo."""
    things = "card,virtual card,transfer,direct debit,top-up,cash withdrawal,exchange,refund,statement".split(",")
    things += "savings account,joint account,PIN,passcode,standing order,cheque".split(",")
    troubles = {
        "not_arrived": "has not arrived yet",
        "declined": "was declined",
        "fee_charged": "came with a fee that was not expected",
        "still_pending": "is still pending",
        "wrong_amount": "shows the wrong amount",
        "cancel": "is to be cancelled",
        "limit_reached": "has reached its limit",
        "not_recognised": "is not recognised",
        "change_details": "needs other details",
        "how_to_start": "is wanted for the first time",
        "taken_twice": "was booked twice",
        "from_abroad": "does not work abroad",
    }
    pairs = [(thing, name, what) for name, what in troubles.items() for thing in things][:count]
    names = [f"{thing.replace(' ', '_').replace('-', '_').lower()}_{name}" for thing, name, _ in pairs]
    return Task(
        name="bank",
        description="Each sample is one short message that a customer writes to a bank's help desk.",
        fields=(Field("message", "one short message of a customer, 5 to 25 words", 10, 200),),
        target=Field("intent", "why the customer writes", 1, 60),
        labels=tuple(Label(n, f"the {thing} {what}") for n, (thing, _, what) in zip(names, pairs, strict=True)),
        demos=tuple(
            Sample({"message": f"Hello, I have a question: my {thing} {what}, and I would like your help with it."}, n)
            for n, (thing, _, what) in zip(names, pairs, strict=True)
        ),
        student=StudentFormat("{message}", "{intent}"),
        hints=Hints(topics=("a holiday", "rent", "a shop", "salary", "family"), styles=("upset", "polite", "brief")),
        max_sample_tokens=60,
    )


def tickets_task(min_chars: int, max_chars: int) -> Task:
    """Messages to a shop with one of two queues, for readers of replies."""
    return Task(
        name="tickets",
        description="Each sample is a message to a shop.",
        fields=(Field("message", "one sentence", min_chars, max_chars),),
        target=Field("queue", "the desk"),
        demos=(
            Sample({"message": "You charged my card twice."}, "billing"),
            Sample({"message": "It is late."}, "delivery"),
        ),
        student=StudentFormat("{message}", "{queue}"),
        labels=(Label("billing", "money"), Label("delivery", "parcels")),
    )


def subjects_task(count: int = 77) -> Task:
    """Subjects of notes, up to 80, that a small generator tells apart; each with a demo."""
    subjects = (
        "football chess tennis swimming skiing cycling boxing sailing fishing hiking bread cheese coffee tea wine beer "
        "chocolate honey rice soup gardens roses trees bees dogs cats horses birds sharks elephants snow storms "
        "earthquakes volcanoes rivers deserts islands moonlight stars rockets trains airplanes bicycles buses ships "
        "bridges castles churches museums libraries piano guitar opera ballet cinema painting photography poetry "
        "dentists nurses lawyers judges police firefighters teachers farmers bankers taxes elections prisons weddings "
        "funerals babies shoes hats jewels computers telephones robots batteries candles"
    ).split()
    if count > len(subjects):
        raise ValueError(f"count: got {count}, expected {len(subjects)} subjects at most")
    subjects = subjects[:count]
    return Task(
        name="subjects",
        description="Each sample is one short note that somebody writes about one subject.",
        fields=(Field("note", "one short note, 5 to 25 words", 10, 200),),
        target=Field("subject", "what the note is about", 1, 30),
        labels=tuple(Label(subject, f"it is about {subject}") for subject in subjects),
        demos=tuple(
            Sample({"note": f"My brother and I spent the whole afternoon with {subject}, and we loved it."}, subject)
            for subject in subjects
        ),
        student=StudentFormat("{note}", "{subject}"),
        hints=Hints(
            topics=("a holiday", "a letter", "work", "a memory", "a question"), styles=("sad", "plain", "brief")
        ),
        max_sample_tokens=60,
    )


class Shortest(FeedbackStrategy):
    """Feeds back the shortest texts, whatever their label.

    Args:
        count: How many.
    """

    def __init__(self, count: int = 3) -> None:
        self.count = count

    def choose(self, probe):
        return sorted(range(len(probe.samples)), key=lambda i: len(probe.samples[i].text))[: self.count]


def make_tiny_student(folder):
    """Writes a one-layer random T5 with a byte-level tokenizer into a folder, and gives its path."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from tokenizers.processors import TemplateProcessing
    from transformers import PreTrainedTokenizerFast, T5Config, T5ForConditionalGeneration

    special = ["<pad>", "</s>", "<unk>"]
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(models.BPE(vocab={t: i for i, t in enumerate([*special, *alphabet])}, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.post_processor = TemplateProcessing(single="$A </s>", special_tokens=[("</s>", 1)])
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token="<pad>",
        eos_token="</s>",
        unk_token="<unk>",
        clean_up_tokenization_spaces=False,
    ).save_pretrained(folder)
    torch.manual_seed(0)
    config = T5Config(
        vocab_size=len(special) + len(alphabet),
        d_model=32,
        d_kv=16,
        num_heads=2,
        d_ff=64,
        num_layers=1,
        num_decoder_layers=1,
        pad_token_id=0,
        eos_token_id=1,
    )
    config.decoder_start_token_id = 0
    T5ForConditionalGeneration(config).save_pretrained(folder)
    return str(folder)


def other_file_system(monkeypatch):
    """The system's temporary folder on a file system of its own, and a kill in the middle of a copy from it."""

    def rename(source, target):
        if os.path.dirname(source) != os.path.dirname(target):
            raise OSError(errno.EXDEV, "Invalid cross-device link")
        real(source, target)

    def copy(source, target, **_):
        with open(source, "rb") as whole, open(target, "wb") as torn:
            torn.write(whole.read(100))
        raise KeyboardInterrupt

    real = os.rename
    monkeypatch.setattr(os, "rename", rename)
    monkeypatch.setattr(shutil, "copyfile", copy)


def assert_demos_pass(task: Task) -> None:
    """Each demo passes all checks beside the others, none is like another, and each is read back as it stands."""
    checker = Checker(task)
    for demo in task.demos:
        label = demo.target if task.labels else None
        prompt = training_request(task, label, [], Hint(), 0).text
        others = [d for d in task.demos if d is not demo]
        assert checker.judge(Completion(render(demo, task)), label, "", prompt, others) == CheckedText(demo)
        checker.keep(demo)
        assert parse(render(demo, task), task) == {**demo.fields, task.target.name: demo.target}


def log_records(data, block=32768):
    """Records of a W&B file, which is a LevelDB log behind a header of seven bytes."""
    at, record = 7, b""
    while at + 7 <= len(data):
        if block - at % block < 7:  # too little left in the block for a header
            at += block - at % block
            continue
        size, kind = int.from_bytes(data[at + 4 : at + 6], "little"), data[at + 6]
        if at + 7 + size > len(data):  # not written to its end yet
            return
        record += data[at + 7 : at + 7 + size]
        at += 7 + size
        if kind in (1, 4):  # the whole of a record, or its last part
            yield record
            record = b""


def make_word_student(folder):
    """Writes a one-layer random T5 into a folder, and gives its path. Its tokenizer is like T5's own: words and ASCII
    letters, NFKC, no double spaces, no line breaks, no braces, no Chinese."""
    from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers
    from tokenizers.processors import TemplateProcessing
    from transformers import PreTrainedTokenizerFast, T5Config, T5ForConditionalGeneration

    letters = "".join(map(chr, range(33, 127))).translate({ord(c): None for c in "{}<\\^~`"})
    special = ["<pad>", "</s>", "<unk>"]
    pieces = [*special, "\u2581", *letters, "\u2581billing", "\u2581delivery"]
    made = Tokenizer(models.Unigram([(p, 0.0 if p in special else -len(pieces) / len(p)) for p in pieces], unk_id=2))
    made.normalizer = normalizers.Sequence([normalizers.NFKC(), normalizers.Replace(Regex(r"\s+"), " ")])
    made.pre_tokenizer, made.decoder = pre_tokenizers.Metaspace(), decoders.Metaspace()
    made.post_processor = TemplateProcessing(single="$A </s>", special_tokens=[("</s>", 1)])
    names = {"pad_token": "<pad>", "eos_token": "</s>", "unk_token": "<unk>"}
    PreTrainedTokenizerFast(tokenizer_object=made, clean_up_tokenization_spaces=False, **names).save_pretrained(folder)
    torch.manual_seed(0)
    sizes = {"d_model": 16, "d_kv": 8, "num_heads": 2, "d_ff": 32, "num_layers": 1, "num_decoder_layers": 1}
    config = T5Config(vocab_size=len(pieces), pad_token_id=0, eos_token_id=1, decoder_start_token_id=0, **sizes)
    T5ForConditionalGeneration(config).save_pretrained(folder)
    return str(folder)


def byte_level_tokenizer(tokens=(), special=(), first=("</s>",)):
    """A tokenizer with a token a byte, and more.

    Args:
        tokens: Further tokens.
        special: Further tokens that are marked as special.
        first: The first tokens: the end, and "<pad>" if there is padding.
    """
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    made = Tokenizer(models.BPE(vocab={t: i for i, t in enumerate([*first, *alphabet])}, merges=[]))
    made.pre_tokenizer, made.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
    made.add_tokens([AddedToken(text, normalized=False) for text in tokens])
    made.add_special_tokens([AddedToken(text, special=True, normalized=False) for text in special])
    pad = {"pad_token": "<pad>"} if "<pad>" in first else {}
    return PreTrainedTokenizerFast(tokenizer_object=made, eos_token="</s>", **pad)


def make_tiny_llama(folder, tokens=()):
    """Saves a one-layer Llama of random weights that likes ASCII, with one token a byte and further ``tokens``."""
    from transformers import LlamaConfig, LlamaForCausalLM

    tokenizer = byte_level_tokenizer(tokens, first=("<pad>", "</s>"))
    vocab = tokenizer.get_vocab()
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=len(vocab),
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=1,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=LLAMA_TOKENS,
        initializer_range=0.4,
        bos_token_id=None,
        eos_token_id=1,
        pad_token_id=0,
        tie_word_embeddings=False,
    )
    model = LlamaForCausalLM(config)
    with torch.no_grad():  # a logit of 0 is never the highest: greedy text is ASCII, so it tells every token
        ascii_ids = {
            vocab[t] for t in vocab.keys() - {"<pad>", "</s>"} if len(tokenizer.decode([vocab[t]]).encode()) == 1
        }
        model.lm_head.weight[[i for i in range(len(vocab)) if i not in ascii_ids]] = 0.0
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder
