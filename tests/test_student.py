"""The student with a tiny T5 of random weights: padding, masks, scores, export, learning rate."""

import itertools
import math
from types import SimpleNamespace
from unittest.mock import Mock

import pytest
import torch
from gold_lightning.callbacks import OODFeedback
from gold_lightning.errors import ConfigError, GoldError, NotFiniteError, SharedError
from gold_lightning.losses import (
    IGNORE_INDEX,
    CrossEntropy,
    GeneralizedCrossEntropy,
    LabelSmoothing,
    SoftTargets,
    SymmetricCrossEntropy,
)
from gold_lightning.scores import EnergyScore, EntropyScore
from gold_lightning.student import T5Student
from gold_lightning.t5 import batches
from gold_lightning.t5.folder import load_folder_task
from gold_lightning.t5.optimizer import lr_factor
from gold_lightning.t5.weights import load_model, load_tokenizer, target_text
from gold_lightning.task import Sample, TestRow

pytestmark = pytest.mark.integration

PAD, END = 0, 1
ROWS = [("short", "A"), ("a text that is a good deal longer", "a longer label"), ("", "A"), ("middling text", "B b")]


def make(places, **how):
    return T5Student(task=places[0], student=places[1], **how).eval()


@pytest.fixture
def student(places):
    return make(places)


def collate(student, rows):
    """What the data module gives, as the student documents it."""
    inputs = student.tokenizer([f"toy: {t}" for t, _ in rows], padding=True, return_tensors="pt")
    labels = student.tokenizer([f" {y}" for _, y in rows], padding=True, return_tensors="pt")  # a byte-level BPE
    return {
        "id": torch.arange(len(rows)),
        "input_ids": inputs.input_ids,
        "attention_mask": inputs.attention_mask,
        "labels": labels.input_ids.masked_fill(labels.attention_mask == 0, IGNORE_INDEX),
        "targets": [(y,) for _, y in rows],
    }


def written(student, monkeypatch, tokens):
    """Makes the model write these tokens."""
    start = torch.full((len(tokens), 1), PAD)
    monkeypatch.setattr(
        student.model, "generate", lambda **_: torch.cat([start, torch.tensor(tokens)], 1), raising=False
    )


LOSSES = [CrossEntropy(), SymmetricCrossEntropy(), GeneralizedCrossEntropy(), LabelSmoothing()]


@pytest.mark.parametrize("loss", LOSSES, ids=lambda x: type(x).__name__)
def test_padding_never_counts_in_the_loss(places, loss):
    student = make(places, loss=loss)
    batch = collate(student, ROWS)
    with torch.no_grad():
        logits = student.forward_logits(batch, batch["labels"])
        for i, row in enumerate(ROWS):
            alone = collate(student, [row])
            wanted = student.loss(student.forward_logits(alone, alone["labels"]), alone["labels"])
            torch.testing.assert_close(
                student.loss(logits[i : i + 1], batch["labels"][i : i + 1]), wanted, atol=1e-5, rtol=1e-5
            )


def test_padding_gets_no_gradient(student):
    batch = collate(student, ROWS)
    logits = student.forward_logits(batch, batch["labels"])
    logits.retain_grad()
    student.loss(logits, batch["labels"]).backward()
    padded = batch["labels"] == IGNORE_INDEX
    assert padded.any()
    assert (logits.grad[padded] == 0).all()
    assert (logits.grad[~padded].abs().sum(-1) > 0).all()


@pytest.mark.parametrize("score", [EnergyScore(), EnergyScore(3.0), EntropyScore()], ids=["energy", "warm", "entropy"])
@pytest.mark.parametrize("teacher_forcing", [False, True])
def test_padding_never_counts_in_the_energy(student, score, teacher_forcing):
    together = student.score(collate(student, ROWS), score, teacher_forcing=teacher_forcing)
    alone = [student.score(collate(student, [row]), score, teacher_forcing=teacher_forcing)[0] for row in ROWS]
    torch.testing.assert_close(together, torch.stack(alone), atol=1e-5, rtol=1e-5)
    assert together.dtype == torch.float32
    assert len(set(together.tolist())) > 1


def test_padding_never_counts_where_sequences_end_apart(places, monkeypatch):
    student = make(places, constrained_decoding=False)
    tokens = [[40, END, PAD, PAD, PAD], [50, 51, 52, 53, END], [END, PAD, PAD, PAD, PAD], [60, 61, END, PAD, PAD]]
    written(student, monkeypatch, tokens)
    together = student.score(collate(student, ROWS), EnergyScore())
    for i, row in enumerate(ROWS):
        kept = [t for t in tokens[i] if t != PAD]
        written(student, monkeypatch, [kept])
        torch.testing.assert_close(
            together[i], student.score(collate(student, [row]), EnergyScore())[0], atol=1e-5, rtol=1e-5
        )


def test_write_masks_what_follows_the_end(places, monkeypatch):
    student = make(places, constrained_decoding=False)
    tokens = [
        [40, 41, END, PAD, PAD],
        [40, 41, 42, 43, 44],
        [END, PAD, PAD, PAD, PAD],
        [40, END, 42, END, 43],
        [40, 41, 42, 43, END],
    ]
    written(student, monkeypatch, tokens)
    x = IGNORE_INDEX
    assert student.write(collate(student, ROWS + ROWS[:1])).tolist() == [
        [40, 41, END, x, x],
        [40, 41, 42, 43, 44],
        [END, x, x, x, x],
        [40, END, x, x, x],
        [40, 41, 42, 43, END],
    ]


def test_write_is_greedy_and_bounded(places):
    student = make(places, constrained_decoding=False)
    batch = collate(student, ROWS)
    tokens = student.write(batch)
    assert tokens.shape[0] == len(ROWS)
    assert tokens.shape[1] <= student.task.student.max_target_tokens
    with torch.no_grad():
        best = student.forward_logits(batch, tokens).argmax(-1)
    kept = tokens != IGNORE_INDEX
    assert (best[kept] == tokens[kept]).all()
    assert torch.equal(tokens, student.write(batch))


@pytest.mark.parametrize("beams", [1, 3, 8])  # 8: more than there are labels
def test_a_student_of_labels_writes_labels_alone(places, beams):
    student = make(places)
    batch = collate(student, ROWS)
    names = set(student.task.label_names)
    assert set(student.read(student.write(batch, num_beams=beams))) <= names
    student.constrained_decoding = False
    assert not set(student.read(student.write(batch, num_beams=beams))) & names  # its weights are random


def test_a_student_of_labels_writes_the_likeliest(student):
    batch = collate(student, ROWS)
    labels = [student.tokenizer(f" {name}").input_ids for name in student.task.label_names]
    tokens = student.write(batch)
    for i, row in enumerate(ROWS):
        alone = collate(student, [row])
        totals = []
        for label in labels:
            with torch.no_grad():
                logits = student.forward_logits(alone, torch.tensor([label]))[0]
            total = 0.0
            for place, token in enumerate(label):  # among the tokens that continue to a label
                allowed = sorted({other[place] for other in labels if other[:place] == label[:place]})
                total += float(logits[place, allowed].log_softmax(-1)[allowed.index(token)])
            totals.append(total)
        assert [t for t in tokens[i].tolist() if t != IGNORE_INDEX] == labels[totals.index(max(totals))]


@pytest.mark.parametrize("score", [EnergyScore(), EntropyScore()], ids=["energy", "entropy"])
def test_the_energy_of_a_label_is_that_of_another_pass_over_it(student, score):
    batch = collate(student, ROWS)
    tokens = student.write(batch)
    torch.testing.assert_close(
        student.score(batch, score), student.score(batch, score, tokens=tokens), atol=1e-5, rtol=1e-5
    )


def by_hand(student, batch, labels):
    """-logsumexp of the logits, averaged over the tokens of one row."""
    with torch.no_grad():
        logits = student.forward_logits(batch, labels)
    return [float(-row[y != IGNORE_INDEX].exp().sum(-1).log().mean()) for row, y in zip(logits, labels, strict=True)]


def test_label_free_is_over_what_the_student_wrote(places, monkeypatch):
    student = make(places, constrained_decoding=False)
    batch = collate(student, ROWS)
    tokens = torch.tensor([[40, 41, END, PAD], [50, END, PAD, PAD], [60, 61, 62, END], [70, 71, 72, 73]])
    written(student, monkeypatch, tokens.tolist())
    found = student.score(batch, EnergyScore())
    assert found.tolist() == pytest.approx(
        by_hand(student, batch, tokens.masked_fill(tokens == PAD, IGNORE_INDEX)), abs=1e-4
    )
    given = student.score(batch, EnergyScore(), tokens=student.write(batch))
    assert torch.equal(given, found)
    batch["labels"] = batch["labels"].flip(0)  # the generator's labels do not matter
    assert torch.equal(student.score(batch, EnergyScore()), found)


def test_teacher_forcing_is_over_the_target(student, monkeypatch):
    batch = collate(student, ROWS)
    found = student.score(batch, EnergyScore(), teacher_forcing=True)
    assert found.tolist() == pytest.approx(by_hand(student, batch, batch["labels"]), abs=1e-4)
    written(student, monkeypatch, [[40, END]] * len(ROWS))  # what the student writes does not matter
    assert torch.equal(student.score(batch, EnergyScore(), teacher_forcing=True, tokens=student.write(batch)), found)
    assert not torch.allclose(student.score(batch, EnergyScore()), found)


def test_validation_gives_the_cross_entropy_of_each_row_whatever_the_loss(student):
    batch = collate(student, ROWS)
    student.log = lambda *_, **__: None
    losses = student.target_losses(batch)
    student.requires_grad_(False)
    log_p = torch.log_softmax(student.forward_logits(batch, batch["labels"]).double(), -1)
    for row, labels, loss in zip(log_p, batch["labels"], losses.tolist(), strict=True):
        of_tokens = [-float(at[label]) for at, label in zip(row, labels.tolist(), strict=True) if label != IGNORE_INDEX]
        assert loss == pytest.approx(sum(of_tokens) / len(of_tokens), rel=1e-5)
    assert (batch["labels"] == IGNORE_INDEX).any()


@pytest.mark.parametrize("constrained", [True, False])
def test_a_test_step_decodes_each_row_once(places, constrained, monkeypatch):
    student, calls = make(places, constrained_decoding=constrained), []
    for name in ("write", "label_scores"):
        method = getattr(student, name)
        monkeypatch.setattr(student, name, lambda *a, _m=method, _n=name, **how: calls.append(_n) or _m(*a, **how))
    for score in (EnergyScore(), None):
        student.test_score = score
        outputs = student.test_step(collate(student, ROWS), 0)
        assert (outputs["energies"] is None) == (score is None)
    assert calls == ["label_scores" if constrained else "write"] * 2


def test_scoring_leaves_no_graph(student):
    assert not student.score(collate(student, ROWS), EnergyScore(), teacher_forcing=True).requires_grad


@pytest.mark.parametrize("loss", LOSSES, ids=lambda x: type(x).__name__)
def test_bf16_autocast_gives_a_finite_loss(places, loss):
    student = make(places, loss=loss).train()
    batch = collate(student, ROWS)
    with torch.autocast("cpu", torch.bfloat16):
        logits = student.forward_logits(batch, batch["labels"])
        value = student.loss(logits, batch["labels"])
    value.backward()
    assert logits.dtype == torch.bfloat16
    assert value.dtype == torch.float32
    assert torch.isfinite(value)
    assert value > 0
    grads = [p.grad for p in student.model.parameters() if p.grad is not None]
    assert grads
    assert all(torch.isfinite(g).all() for g in grads)


def test_bf16_energy_is_float32_and_near(student):
    batch = collate(student, ROWS)
    wanted = student.score(batch, EnergyScore(), teacher_forcing=True)
    with torch.autocast("cpu", torch.bfloat16):
        found = student.score(batch, EnergyScore(), teacher_forcing=True)
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, wanted, atol=0.3, rtol=0.05)


@pytest.mark.parametrize("optimizer", ["adamw", "adafactor"])
def test_it_learns(places, optimizer):
    student = make(places, optimizer=optimizer, lr=1e-2)
    batch = collate(student, ROWS)
    made = student.configure_optimizers()
    losses = []
    for _ in range(25):
        made.zero_grad()
        loss = student.loss(student.forward_logits(batch, batch["labels"]), batch["labels"])
        loss.backward()
        made.step()
        losses.append(loss.item())
    assert losses[-1] < 0.8 * losses[0]


def test_weight_decay_is_for_matrices_alone(places):
    groups = make(places, weight_decay=0.3).configure_optimizers().param_groups
    assert {g["weight_decay"] for g in groups} == {0.3, 0.0}
    assert all((p.ndim >= 2) == (g["weight_decay"] > 0) for g in groups for p in g["params"])


@pytest.mark.parametrize(("key", "part"), [("encoder_lr", "encoder"), ("embedding_lr", "shared")])
def test_encoder_and_embeddings_learn_at_their_share_of_the_rate_or_not_at_all(places, key, part):
    def rates(share):
        student = make(places, lr=1e-2, **{key: share})
        found = {id(p): g["share"] for g in student.configure_optimizers().param_groups for p in g["params"]}
        return {n: found.get(id(p)) for n, p in student.model.named_parameters()}, student

    for share in (1.0, 0.1):
        named, _ = rates(share)
        assert {v for n, v in named.items() if n.startswith(part)} == {share}
        assert {v for n, v in named.items() if not n.startswith(part)} == {1.0}
    named, student = rates(0.0)
    assert {n.split(".")[0] for n, v in named.items() if v is None} == {part}
    student.training_step(collate(student, ROWS), 0).backward()
    assert all((p.grad is None) == (named[n] is None) for n, p in student.model.named_parameters())
    with pytest.raises(ConfigError, match=key):
        make(places, **{key: -0.1})


@pytest.mark.parametrize("restart", [True, False])
def test_a_round_begins_from_the_first_weights_if_asked_to(places, restart):
    student = make(places, lr=1e-2, restart=restart)
    first = {n: w.clone() for n, w in student.model.state_dict().items()}
    optimizer = student.configure_optimizers()
    student._trainer = Mock(current_epoch=0, optimizers=[optimizer])
    student.on_train_epoch_start()
    student.loss(student.forward_logits(b := collate(student, ROWS), b["labels"]), b["labels"]).backward()
    optimizer.step()
    trained = {n: w.clone() for n, w in student.model.state_dict().items()}
    assert any(not torch.equal(first[n], w) for n, w in trained.items())
    student._trainer.current_epoch = 1
    student.on_train_epoch_start()
    found = student.model.state_dict()
    assert all(torch.equal(w, found[n]) for n, w in (first if restart else trained).items())
    assert bool(optimizer.state) is not restart


def test_a_restart_reads_no_weights_again_and_the_export_builds_no_second_model(places, tmp_path, monkeypatch):
    student = make(places, restart=True)
    shared = {name for name, weight in student._first.items() if weight is student._first["shared.weight"]}
    assert len(shared) > 1  # one copy for all names of a tied weight
    monkeypatch.setattr("gold_lightning.student.load_model", None)
    student._trainer = Mock(current_epoch=1, optimizers=[])
    first = student.model.shared.weight.detach().clone()
    with torch.no_grad():
        student.model.shared.weight.add_(1.0)
    held = {name: weight.clone() for name, weight in student.state_dict().items()}
    student.on_train_epoch_start()
    assert torch.equal(student.model.shared.weight, first)
    student.export(tmp_path / "out", held)  # other weights than the student's own, which stay
    assert torch.equal(load_model(str(tmp_path / "out")).shared.weight, first + 1.0)
    assert torch.equal(student.model.shared.weight, first)


def test_a_target_begins_after_a_space_where_the_tokenizer_tells_words_by_it(student):
    assert target_text(student.tokenizer, "Sports") == " Sports"
    sentence_piece = Mock(get_vocab=lambda: {"\u2581Sports": 5, "S": 6})
    assert target_text(sentence_piece, "Sports") == "Sports"
    embedded = load_tokenizer("embedded")
    assert len(embedded(target_text(embedded, "Sports")).input_ids) == 2  # the word and the end


def test_reading_gives_labels_by_their_name(student):
    batch = collate(student, ROWS)
    assert [(text,) for text in student.read(batch["labels"])] == batch["targets"]
    assert student.read(torch.tensor([[END, IGNORE_INDEX]])) == [""]


def test_rows_are_collated_to_the_batch_that_is_documented(student):
    samples = [Sample({"text": "short"}, "A"), TestRow({"text": "longer"}, "A", ("B b",))]
    (batch,) = batches.make_loader(student.task, student.tokenizer, samples, 2)
    assert batch["targets"] == [("A",), ("A", "B b")]
    wanted = collate(student, [("short", "A"), ("longer", "A")])
    assert all(torch.equal(batch[k], wanted[k]) for k in ("id", "input_ids", "attention_mask", "labels"))


def test_all_targets_of_a_row_count(student):
    batch = collate(student, ROWS) | {"targets": [("A",), ("no", "B b"), ("no", "nor"), ("A", "no  matter")]}
    for metric in (metric for _, metric in student._stage_metrics("val")):
        metric.reset()
    student._update("val", ["A", "B b", "A", "no matter"], batch)
    assert [float(m.compute()) for _, m in student._stage_metrics("val")] == [0.5]  # two spaces are not one


def test_targets_are_compared_as_they_are_whatever_the_tokenizer_makes_of_them(student, monkeypatch):
    monkeypatch.setattr(student.tokenizer, "decode", lambda *_, **__: "")  # as one that lacks all their characters
    monkeypatch.setattr(student.tokenizer, "batch_decode", lambda rows, **_: [""] * len(rows))
    batch = collate(student, ROWS) | {"targets": [(text,) for text in ("\u706f", "\u5750", "\u4e86", "A")]}
    for stage in ("val", "test"):
        student._update(stage, student.read(batch["labels"]), batch)
        assert [float(m.compute()) for _, m in student._stage_metrics(stage)] == [0.0]


def test_the_training_loss_of_a_round_is_the_mean_over_its_target_tokens(student):
    logged, settings = {}, {}

    def log(name, value, **how):
        logged.setdefault(name, []).append(value)
        settings[name] = how

    student.log = log
    weighed = []
    for step, rows in enumerate((ROWS[:1], ROWS[1:])):
        loss = student.training_step(collate(student, rows), step)
        weighed.append((loss.item(), sum(len(f" {target}") + 1 for _, target in rows)))
    wanted = sum(loss * tokens for loss, tokens in weighed) / sum(tokens for _, tokens in weighed)
    assert float(student.train_loss.compute()) == pytest.approx(wanted, rel=1e-6)
    assert abs(weighed[-1][0] - wanted) > 1e-3
    assert all(value is student.train_loss for value in logged["train/loss"])  # Lightning computes it at the end
    assert settings["train/loss"] == {"on_step": False, "on_epoch": True}
    assert [x.item() for x in logged["train/loss_step"]] == [loss for loss, _ in weighed]


def trains(student, precision="32-true", scaler=None, **more):
    how = {"training": True, "testing": False, "is_global_zero": True, "current_epoch": 3, "world_size": 1}
    plugin = SimpleNamespace(scaler=scaler)
    student._trainer = Mock(**how, precision=precision, precision_plugin=plugin, log_every_n_steps=2, **more)
    student.log = lambda *_, **__: None


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
def test_a_loss_that_is_not_finite_ends_the_run_in_one_line(student, monkeypatch, bad):
    trains(student, is_last_batch=False)
    monkeypatch.setattr(type(student.loss), "per_token", lambda *_: torch.tensor(bad))
    with pytest.raises(NotFiniteError) as e:
        for step in range(2):
            student.training_step(collate(student, ROWS), step)
            student.on_train_batch_end(None, None, step)
    assert str(e.value).startswith("round 3: the training loss of step 0 is not finite; lower model.lr (0.0003)")
    assert "\n" not in str(e.value) and step == 1
    trains(student, precision="16-true", is_last_batch=True)
    with pytest.raises(NotFiniteError, match=r"set trainer\.precision to bf16-mixed or 32-true"):
        student.on_train_batch_end(None, None, step)


@pytest.mark.parametrize(("bad", "ends"), [(1, False), (2, True), (4, True)])
def test_a_step_that_a_gradient_scaler_skips_ends_no_run_but_many_do(student, caplog, bad, ends):
    for step in range(4):
        student.train_loss.update(torch.tensor(float("nan") if step < bad else 2.0), torch.tensor(3), step)
    trains(student, precision="16-mixed", scaler=object(), is_last_batch=False)
    student.on_train_batch_end(None, None, 1)
    trains(student, precision="16-mixed", scaler=object(), is_last_batch=True)
    if ends:
        with pytest.raises(NotFiniteError, match=f"the training loss of {bad} of 4 steps is not finite"):
            student.on_train_batch_end(None, None, 3)
    else:
        student.on_train_batch_end(None, None, 3)
        assert "1 of 4 training steps were skipped" in caplog.text and float(student.train_loss.compute()) == 2.0


def test_another_process_fails_without_words_of_its_own(student):
    trains(student)
    student._trainer.is_global_zero = False
    assert isinstance(student.not_finite("x"), SharedError)


def test_export_loads_in_transformers_and_computes_the_same(student, tmp_path):
    from transformers import AutoModelForSeq2SeqLM, AutoTokenizer

    student.export(tmp_path / "out", student.state_dict())
    model = AutoModelForSeq2SeqLM.from_pretrained(tmp_path / "out").eval()
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "out")
    assert list((tmp_path / "out").glob("*.safetensors"))
    assert not list((tmp_path / "out").glob("*.bin"))
    batch = collate(student, ROWS)
    inputs = tokenizer([f"toy: {t}" for t, _ in ROWS], padding=True, return_tensors="pt")
    assert torch.equal(inputs.input_ids, batch["input_ids"])
    with torch.no_grad():
        found = model(**{k: inputs[k] for k in ("input_ids", "attention_mask")}, labels=batch["labels"]).logits
        wanted = student.forward_logits(batch, batch["labels"])
    torch.testing.assert_close(found, wanted, atol=1e-6, rtol=1e-6)


@pytest.mark.parametrize("steps", [1, 2, 3, 10, 30, 100])
@pytest.mark.parametrize("decay", ["none", "linear", "cosine"])
@pytest.mark.parametrize("warmup", [0.0, 0.1, 0.5])
def test_the_learning_rate_rises_then_falls(steps, decay, warmup):
    factors = [lr_factor(i, steps, warmup, decay) for i in range(steps)]
    assert all(0 < f <= 1 for f in factors)
    assert max(factors) == pytest.approx(1.0)
    rising = math.ceil(round(warmup * steps, 9))
    assert factors[:rising] == pytest.approx([(i + 1) / rising for i in range(rising)])
    falling = factors[rising:]
    assert falling == sorted(falling, reverse=True)
    if decay == "none":
        assert set(falling) <= {1.0}
    elif len(falling) > 1:
        assert falling[0] == pytest.approx(1.0)
        drops = [a - b for a, b in itertools.pairwise(falling)]
        if decay == "linear":
            assert drops == pytest.approx([1 / len(falling)] * len(drops))
        else:
            assert falling == pytest.approx(
                [(1 + math.cos(math.pi * i / len(falling))) / 2 for i in range(len(falling))]
            )


@pytest.mark.parametrize(
    ("change", "key"),
    [
        ({"lr": 0.0}, "lr"),
        ({"lr": float("nan")}, "lr"),
        ({"lr": 1e38}, "lr"),
        ({"warmup": 1.0}, "warmup"),
        ({"warmup": -0.1}, "warmup"),
        ({"weight_decay": -1.0}, "weight_decay"),
        ({"num_beams": 0}, "num_beams"),
    ],
    ids=str,
)
def test_wrong_settings_name_their_key(places, change, key):
    with pytest.raises(ConfigError) as e:
        make(places, **change)
    assert str(e.value).startswith(f"model.{key}: got ")


def test_a_student_that_is_nowhere_is_one_line(tmp_path):
    with pytest.raises(GoldError) as e:
        load_tokenizer(str(tmp_path / "no" / "such"))
    assert len(str(e.value).splitlines()) == 1
    assert "--model.student" in str(e.value)


def test_each_student_and_each_callback_has_its_own_loss_and_score(places):
    one, two = make(places), make(places)
    assert type(one.loss) is SymmetricCrossEntropy and one.loss is not two.loss
    assert OODFeedback().score is not OODFeedback().score
    given = CrossEntropy()
    assert make(places, loss=given).loss is given


def test_a_student_predicts_one_text_and_several(student):
    (one,) = student.predict(["x"])
    assert one in student.task.label_names
    assert student.predict("x") == student.predict({"text": "x"}) == one
    assert student.predict(["x", "y", "a longer text"], batch_size=2) == [
        student.predict(t) for t in ("x", "y", "a longer text")
    ]
    assert student.predict([]) == [] and list(student.predict(text for text in "x")) == [one]
    for wrong in ({"other": "x"}, {"text": 1}, None, 5, b"x", [1], [["x"]]):
        with pytest.raises(GoldError, match=r"predict: got .* expected a text"):
            student.predict(wrong)


def test_predicting_leaves_the_mode_as_it_was_also_after_an_error(places, monkeypatch):
    student = make(places).train()
    modes = []

    def fail(*_):
        modes.append(student.model.training)
        raise RuntimeError("no memory")

    monkeypatch.setattr(student, "predict_batch", fail)
    with pytest.raises(RuntimeError, match="no memory"):
        student.predict("x")
    assert modes == [False] and student.training and student.model.training


def test_the_folder_of_a_student_carries_its_task(student, tmp_path):
    student.export(tmp_path, {f"model.{name}": w for name, w in student.model.state_dict().items()})
    task, decoding = load_folder_task(tmp_path)
    assert task.to_dict() == student.task.to_dict() and decoding == {"num_beams": 1, "constrained_decoding": True}
    again = T5Student(task, str(tmp_path), **decoding)
    assert again.predict(["x", "y"]) == student.predict(["x", "y"])
    (tmp_path / "gold_task.json").write_text("{}")
    with pytest.raises(GoldError, match=r"gold_task\.json: damaged"):
        load_folder_task(tmp_path)
    (tmp_path / "gold_task.json").unlink()
    with pytest.raises(GoldError, match=r"a student of an older version, without its task \(gold_task.json\)"):
        load_folder_task(tmp_path)
    (tmp_path / "config.json").unlink()
    with pytest.raises(GoldError, match="expected the folder of a student"):
        load_folder_task(tmp_path)


def soft(places, weight, **how):
    return make(places, loss=SoftTargets(weight, **how), lr=1e-2)


LABELLED = [("short", "A"), ("a text that is a good deal longer", "a longer label"), ("", "A"), ("middling", "B b")]


def over_labels(student, batch):
    """Log-probabilities of labels, as they are computed to predict."""
    return student.label_scores(batch, best_only=False).log_probs


def test_soft_targets_of_one_label_are_plain_cross_entropy_over_labels(places):
    student = soft(places, 1.0)
    batch = collate(student, LABELLED)
    places_of = torch.tensor([student.task.label_names.index(label) for _, label in LABELLED])
    expected = torch.nn.functional.cross_entropy(over_labels(student, batch), places_of)
    for probabilities in (None, torch.nn.functional.one_hot(places_of, 3).float()):
        if probabilities is not None:
            batch["probabilities"] = probabilities
        torch.testing.assert_close(student.training_step(batch, 0), expected, atol=1e-5, rtol=1e-5)


def test_a_weight_mixes_the_divergence_with_the_hard_loss(places):
    batch = collate(soft(places, 0.0), LABELLED)
    batch["probabilities"] = torch.tensor([[0.7, 0.2, 0.1], [0.0, 0.1, 0.9], [0.4, 0.3, 0.3], [0.0, 1.0, 0.0]])
    hard, divergence, mixed = (
        soft(places, weight, temperature=2.0, hard=CrossEntropy()).training_step(batch, 0) for weight in (0.0, 1.0, 0.3)
    )
    torch.testing.assert_close(mixed, 0.7 * hard + 0.3 * divergence)
    student = make(places, loss=CrossEntropy())
    assert torch.equal(hard, student.training_step(batch, 0))
    targets = batch["probabilities"].sqrt() / batch["probabilities"].sqrt().sum(-1, keepdim=True)
    expected = torch.nn.functional.kl_div(over_labels(student, batch), targets, reduction="batchmean")
    torch.testing.assert_close(divergence, expected, atol=1e-5, rtol=1e-5)


def test_padding_rows_do_not_count_in_the_divergence(places):
    student = soft(places, 0.6)
    batch = collate(student, LABELLED[:3])
    alone = student.training_step(batch, 0)
    padded = collate(student, [*LABELLED[:3], LABELLED[1]])
    padded["labels"][-1] = IGNORE_INDEX
    torch.testing.assert_close(student.training_step(padded, 0), alone, atol=1e-5, rtol=1e-5)


def test_it_learns_a_distribution(places):
    student = soft(places, 1.0)
    batch = collate(student, LABELLED)
    batch["probabilities"] = torch.tensor([[0.7, 0.2, 0.1], [0.1, 0.1, 0.8], [0.4, 0.3, 0.3], [0.2, 0.6, 0.2]])
    optimizer = student.configure_optimizers()
    losses = []
    for step in range(60):
        optimizer.zero_grad()
        loss = student.training_step(batch, step)
        loss.backward()
        assert all(w.grad.isfinite().all() for w in student.model.parameters())
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.1 * losses[0]
    torch.testing.assert_close(over_labels(student, batch).exp(), batch["probabilities"], atol=0.15, rtol=0)


def test_training_settings_name_soft_targets_and_their_hard_loss(places):
    settings = soft(places, 0.3, hard=CrossEntropy()).training_settings()["loss"]
    assert settings["class"].endswith("SoftTargets") and settings["weight"] == 0.3
    assert settings["hard"]["class"].endswith("CrossEntropy")
