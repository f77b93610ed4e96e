"""The ONNX graph against the model itself, over activations, ties, layers, biases and trees of labels."""

import numpy as np
import pytest
import torch
from gold_lightning.exporting.label_graph import label_graph
from gold_lightning.scores import EnergyScore
from gold_lightning.t5.label_scoring import LabelTree, score_labels

onnxruntime = pytest.importorskip("onnxruntime", reason="the extra export is not installed")
pytest.importorskip("onnx", reason="the extra export is not installed")

pytestmark = pytest.mark.integration

LABELS = [[5, 1], [5, 6, 1], [5, 6, 7, 1], [8, 1], [9, 5, 5, 1]]
SHAPES = {
    "t5": {"feed_forward_proj": "relu"},
    "v1.1": {"feed_forward_proj": "gated-gelu", "tie_word_embeddings": False},
    "gelu": {"feed_forward_proj": "gelu", "num_layers": 3, "num_decoder_layers": 1},
    "silu": {
        "feed_forward_proj": "gated-silu",
        "relative_attention_max_distance": 6,
        "relative_attention_num_buckets": 8,
        "d_kv": 4,
    },
}


def model_of(name="", kind="T5", **settings):
    import transformers

    torch.manual_seed(0)
    config = getattr(transformers, f"{kind}Config")(
        **{
            "vocab_size": 40, "d_model": 16, "d_kv": 8, "d_ff": 24, "num_layers": 2, "num_decoder_layers": 2,
            "num_heads": 3, "decoder_start_token_id": 0, "initializer_factor": 4.0, **SHAPES.get(name, {}), **settings,
        }
    )  # fmt: skip
    model = getattr(transformers, f"{kind}ForConditionalGeneration")(config).eval()
    with torch.no_grad():
        for parameter_name, parameter in model.named_parameters():
            if "norm" in parameter_name or "relative_attention_bias" in parameter_name:
                parameter.copy_(torch.randn_like(parameter) + 1)
    return model


def batch_of(lengths=(3, 11, 30, 1)):
    torch.manual_seed(1)
    mask = torch.tensor([[i < length for i in range(max(lengths))] for length in lengths]).long()
    return {"input_ids": torch.randint(2, 40, mask.shape) * mask, "attention_mask": mask}


def run(proto, batch):
    session = onnxruntime.InferenceSession(proto.SerializeToString(), providers=["CPUExecutionProvider"])
    return session.run(["log_probs", "best", "energy"], {name: tensor.numpy() for name, tensor in batch.items()})


@pytest.mark.parametrize("name", SHAPES)
def test_it_computes_what_the_model_computes(name):
    model, tree, batch = model_of(name), LabelTree(LABELS, start=0), batch_of()
    expected = score_labels(model, tree, batch, EnergyScore())
    log_probs, best, energy = run(label_graph(model, tree), batch)
    assert log_probs == pytest.approx(expected.log_probs.numpy(), abs=2e-4)
    assert best.tolist() == expected.best.tolist()
    assert energy == pytest.approx(expected.energies.numpy(), abs=2e-4)
    assert len(set(energy.round(3))) == len(energy)  # it reads the texts


def test_each_layer_of_umt5_has_a_bias_of_its_own():
    model, tree, batch = model_of(kind="UMT5"), LabelTree(LABELS, start=0), batch_of()
    expected = score_labels(model, tree, batch, EnergyScore())
    log_probs, best, energy = run(label_graph(model, tree), batch)
    assert log_probs == pytest.approx(expected.log_probs.numpy(), abs=2e-4)
    assert best.tolist() == expected.best.tolist()
    assert energy == pytest.approx(expected.energies.numpy(), abs=2e-4)


def test_equal_labels_go_to_the_first():
    model, tree = model_of("t5"), LabelTree([[5, 1], [6, 1]], start=0)
    with torch.no_grad():
        model.shared.weight[6] = model.shared.weight[5]
    log_probs, best, _ = run(label_graph(model, tree), batch_of())
    assert log_probs[:, 0] == pytest.approx(log_probs[:, 1], abs=1e-4) and best.tolist() == [0] * 4


@pytest.mark.parametrize("name", ["t5", "v1.1"])
def test_8_bits_take_a_quarter_and_change_little(name):
    model, tree, batch = model_of(name, initializer_factor=1.0, vocab_size=5000), LabelTree(LABELS, start=0), batch_of()
    expected = score_labels(model, tree, batch, EnergyScore())
    whole, small = label_graph(model, tree), label_graph(model, tree, int8=True)
    assert small.ByteSize() < 0.5 * whole.ByteSize()
    log_probs, _, energy = run(small, batch)
    differences = np.abs(log_probs - expected.log_probs.numpy())
    spread = expected.log_probs.numpy().std()
    assert 1e-4 < differences.max() and differences.mean() < 0.05 * spread
    assert energy == pytest.approx(expected.energies.numpy(), rel=0.03)


def test_the_numbers_of_rows_and_tokens_are_free():
    model, tree = model_of("t5"), LabelTree(LABELS, start=0)
    proto = label_graph(model, tree)
    batch = batch_of()
    together, _, _ = run(proto, batch)
    for i, length in enumerate((3, 11, 30, 1)):
        alone, _, _ = run(proto, {name: tensor[i : i + 1, :length] for name, tensor in batch.items()})
        assert alone[0] == pytest.approx(together[i], abs=2e-4)
