"""Likelihoods of many choices against a pass for each choice."""

import random
import time

import pytest
import torch
from gold_lightning.generators import (
    Request,
    TransformersGenerator,
    choice_tree,
    prefix_attention,
    row_batch,
    transformers,
)
from gold_lightning.generators.base import distinguishing_prefixes
from gold_lightning.generators.choice_tree import ChoiceTree

pytestmark = pytest.mark.integration

WORDS = "card transfer refund limit account cash top up fee rate wrong late lost stolen pending".split()


def names(count, seed=0):
    """Different names of two to four words, which begin alike as those of intents do."""
    rng = random.Random(seed)
    found = {}
    while len(found) < count:
        found[" " + "_".join(rng.sample(WORDS, rng.randint(2, 4)))] = None
    return tuple(found)


def by_definition(choices):
    """Each choice cut after the first token that tells it from all others, one by one."""
    cut = []
    for i, c in enumerate(choices):
        others = [o for j, o in enumerate(choices) if j != i] or [c]
        size = next((n for n in range(1, len(c)) if all(o[:n] != c[:n] for o in others)), len(c))
        cut.append(c[:size])
    return cut


SETS = {
    "two": (" yes", " no"),
    "one token each": ("a", "b", "c"),
    "one": (" alone",),
    "the same twice": (" same", " same", " other"),
    "beginnings of each other": (" no", " not", " note", " notes", " nothing"),
    "77": names(77),
    "other scripts": (" счёт", " счета", " 帐户", " 帐单", " é", " è"),
}


@pytest.mark.parametrize("choices", SETS.values(), ids=SETS)
def test_choices_are_cut_where_they_can_be_told(choices):
    assert distinguishing_prefixes(choices) == by_definition(choices)
    tokens = [list(c.encode()) for c in choices]
    assert distinguishing_prefixes(tokens) == by_definition(tokens)
    assert [list(c) for c in ChoiceTree(tokens).choices] == by_definition(tokens)


def test_cutting_takes_no_longer_for_many_than_reading_them():
    tokens = [list(name.encode()) for name in names(4000)]
    started = time.process_time()
    distinguishing_prefixes(tokens)
    assert time.process_time() - started < 2  # comparing each with each takes minutes


@pytest.mark.parametrize("most", [1, 3, 10_000])
@pytest.mark.parametrize("choices", SETS.values(), ids=SETS)
def test_parts_hold_each_edge_once_and_no_node_before_its_parent(choices, most):
    tree = ChoiceTree([list(c.encode()) for c in choices])
    for parts in (list(tree.parts(most)), list(tree.branches())):
        edges = [edge for part in parts for _, _, edge in part.edges]
        assert sorted(edges) == list(range(tree.edges))
        for part in parts:
            assert all(parent <= at for at, parent in enumerate(part.parents))
            assert part.depths()[0] == 0 and (part.sees().sum(1) == torch.tensor(part.depths()[1:])).all()
    assert len(list(tree.parts(10_000))) == 1
    assert all(len(part.tokens) <= 1 + max(part.depths()) for part in tree.parts(1))


@pytest.fixture(scope="module")
def reference(tiny_llama):
    from transformers import AutoModelForCausalLM, AutoTokenizer

    model = AutoModelForCausalLM.from_pretrained(tiny_llama, dtype=torch.float32).eval()
    return model, AutoTokenizer.from_pretrained(tiny_llama)


def naive(reference, request):
    """Log-likelihood of each choice up to where it is told: a pass over prompt and choice for each."""
    model, tokenizer = reference
    prompt = tokenizer(request.text).input_ids
    found = []
    for choice in by_definition([tokenizer(c).input_ids for c in request.choices]):
        with torch.no_grad():
            log_p = torch.log_softmax(model(torch.tensor([prompt + choice])).logits[0].double(), -1)
        found.append(sum(float(log_p[len(prompt) - 1 + i, token]) for i, token in enumerate(choice)))
    return found


def asked(choices):
    """Texts of many lengths behind two shared prompts and one with nothing in common, not sorted by either."""
    shared = ["One of many. " * 4, "Another prompt. ", ""]
    owns = ["x", "My card is gone and so is the money on it.", "Why?", "no" * 20, "Hello there, " * 3]
    return [
        Request("s" if i % 3 else "", shared[i % 3], own, "intent:", choices=choices) for i, own in enumerate(owns * 2)
    ]


@pytest.mark.parametrize("shares", [True, False], ids=["tree", "rows"])
@pytest.mark.parametrize("choices", SETS.values(), ids=SETS)
def test_likelihoods_are_those_of_a_pass_for_each_choice(tiny_llama, reference, choices, shares, monkeypatch):
    if not shares:
        for module in (transformers, row_batch):
            monkeypatch.setattr(module, "supports_prefix", lambda model: model.set_attn_implementation("sdpa"))
    generator = TransformersGenerator(str(tiny_llama), dtype="float32", device="cpu", batch_size=7)
    requests = asked(choices)[:: 5 if len(choices) > 50 else 1]
    found = generator.generate(requests)
    for request, completion in zip(requests, found, strict=True):
        assert completion.choice_log_probs == pytest.approx(naive(reference, request), abs=2e-4)


@pytest.mark.parametrize("most", [("_MOST_NODES", 5), ("_MOST_TOKENS", 100), ("_MOST_LOGITS", 3000)], ids=str)
def test_likelihoods_do_not_depend_on_how_the_work_is_cut(tiny_llama, most, monkeypatch):
    generator = TransformersGenerator(str(tiny_llama), dtype="float32", device="cpu")
    requests = asked(SETS["77"])
    whole = generator.generate(requests)
    monkeypatch.setattr(choice_tree, *most)
    monkeypatch.setattr(prefix_attention, "_CHUNK_TOKENS", 11)
    for one, two in zip(whole, generator.generate(requests), strict=True):
        assert one.choice_log_probs == pytest.approx(two.choice_log_probs, abs=2e-4)


def test_one_call_may_ask_about_several_sets(tiny_llama, reference):
    generator = TransformersGenerator(str(tiny_llama), dtype="float32", device="cpu")
    requests = [asked(choices)[i] for i, choices in enumerate([SETS["two"], SETS["one"], SETS["two"], (" a", " bc")])]
    for request, completion in zip(requests, generator.generate(requests), strict=True):
        assert completion.choice_log_probs == pytest.approx(naive(reference, request), abs=2e-4)


def test_the_work_grows_with_the_tokens_that_tell_choices_apart(tiny_llama, monkeypatch):
    generator = TransformersGenerator(str(tiny_llama), dtype="float32", device="cpu")
    model, _ = generator._load()
    forward, steps = type(model).forward, []

    def counted(self, *args, **how):
        out = forward(self, *args, **how)
        steps.append((how["input_ids"].numel(), out.logits.numel()))
        return out

    monkeypatch.setattr(type(model), "forward", counted)
    requests = [Request("", "One of many. " * 8, f"Text {i}.", "is:", choices=names(500)) for i in range(8)]
    nodes = len(ChoiceTree([list(c.encode()) for c in names(500)]))
    vocab = model.config.vocab_size
    monkeypatch.setattr(choice_tree, "_MOST_LOGITS", 3 * choice_tree._MOST_NODES * vocab)  # room for few of the texts
    generator.generate(requests)
    head = len("One of many. " * 8)
    assert sum(tokens for tokens, _ in steps) < head + 8 * (60 + 1.2 * nodes)
    assert max(logits for _, logits in steps) <= choice_tree._MOST_LOGITS


def test_a_prompt_is_computed_once_for_all_calls_that_score_after_it(tiny_llama, reference, monkeypatch):
    computed = []
    compute = transformers.compute_prefix
    monkeypatch.setattr(
        transformers, "compute_prefix", lambda model, tokens: computed.append(len(tokens)) or compute(model, tokens)
    )
    generator = TransformersGenerator(str(tiny_llama), dtype="float32", device="cpu")
    shared = "One of many. " * 4
    # However alike the texts of a call are, and with one text alone.
    for owns in (["same x", "same y"], ["other"], ["same x"]):
        requests = [Request("s", shared, own, "intent:", choices=SETS["77"]) for own in owns]
        for request, made in zip(requests, generator.generate(requests), strict=True):
            assert made.choice_log_probs == pytest.approx(naive(reference, request), abs=2e-4)
    assert computed == [len("s\n\n" + shared)]
    generator.release()
    generator.generate(requests)
    assert len(computed) == 2
    monkeypatch.setattr(transformers, "_PREFIX_CACHE_BYTES", 10)
    for _ in range(2):
        generator.release()
        generator.generate(requests)
    assert len(computed) == 4 and generator._last_prefix is None
