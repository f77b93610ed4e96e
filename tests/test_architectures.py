"""Models of other kinds than the embedded one, tiny and of random weights, against plain transformers."""

import pytest
import torch
import transformers
from gold_lightning.generators import Request, TransformersGenerator
from gold_lightning.generators.prefix_attention import supports_prefix

pytestmark = pytest.mark.integration

# Whether attention over a shared prompt can be had, and what makes the kind worth a test.
KINDS = {
    "Qwen2": True,  # biases
    "Gemma": True,  # another scale of the embeddings, tied
    "GPT2": True,  # learnt positions
    "Granite": True,  # scaled attention
    "Nemotron": False,  # says that it takes any attention, and computes its own
    "Gemma2": False,  # windows and capped scores, for which torch has no kernel
    "Mistral": False,  # windows
    "Bloom": False,  # positions by distance
}


@pytest.fixture(scope="module", params=KINDS)
def kind(request, tiny_llama, tmp_path_factory):
    folder = tmp_path_factory.mktemp(request.param)
    transformers.AutoTokenizer.from_pretrained(tiny_llama).save_pretrained(folder)
    sizes = {"vocab_size": 258, "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2}
    sizes |= {"num_attention_heads": 4, "num_key_value_heads": 4, "max_position_embeddings": 320}
    config = getattr(transformers, f"{request.param}Config")(
        **sizes, head_dim=8, pad_token_id=0, bos_token_id=None, eos_token_id=1
    )
    torch.manual_seed(0)
    head = {"GPT2": "GPT2LMHeadModel"}.get(request.param, f"{request.param}ForCausalLM")
    model = getattr(transformers, head)(config).eval()
    with torch.no_grad():
        for weight in model.parameters():
            if weight.ndim > 1:  # as they are drawn, hardly anything depends on the prompt
                weight.mul_(6)
    model.save_pretrained(folder)
    return request.param, folder, model


def requests(**how):
    shared = "A prompt that all of them share. " * 2
    return [Request("s", shared, own, "a:", max_tokens=12, **how) for own in ("x", "another one", "and a third")]


def test_what_is_written_and_how_choices_are_judged_is_what_plain_transformers_computes(kind):
    name, folder, model = kind
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    generator = TransformersGenerator(str(folder), temperature=0.0, dtype="float32", device="cpu")
    for request, made in zip(requests(), generator.generate(requests()), strict=True):
        ids = tokenizer(request.text, return_tensors="pt").input_ids
        with torch.no_grad():
            out = model.generate(ids, attention_mask=torch.ones_like(ids), max_new_tokens=12, do_sample=False)
        wanted = [t for t in out[0, ids.shape[1] :].tolist() if t != 1]
        assert made.text == tokenizer.decode(wanted, skip_special_tokens=True), name
    choices = (" ab", " abc", " b", " cde", " cdf")
    for request, made in zip(requests(), generator.generate(requests(choices=choices)), strict=True):
        prompt = tokenizer(request.text).input_ids
        wanted = []
        for choice in (" ab", " abc", " b", " cde", " cdf"):  # each is told by its last token
            rest = tokenizer(choice).input_ids
            with torch.no_grad():
                log_p = torch.log_softmax(model(torch.tensor([prompt + rest])).logits[0].double(), -1)
            wanted.append(sum(float(log_p[len(prompt) - 1 + i, token]) for i, token in enumerate(rest)))
        assert made.choice_log_probs == pytest.approx(wanted, abs=1e-3), name
    assert supports_prefix(generator._load()[0]) is KINDS[name]
