"""The index of duplicates against comparing each text with all others."""

import random
import tracemalloc

import numpy as np
import pytest
from datasketch import MinHash
from gold_lightning.checks import duplicates
from gold_lightning.checks.duplicates import DuplicateIndex
from gold_lightning.parsing.words import runs, words
from gold_lightning.storage import number_index
from gold_lightning.task import Sample


def sample(text):
    return Sample({"text": text}, "A")


def signature(text):
    hashes = MinHash(num_perm=128, seed=1)
    hashes.update_batch([" ".join(run).encode() for run in set(runs(words(text), 3))])
    return hashes.hashvalues


@pytest.mark.parametrize("blocks", [(4096, 16), (4, 0), (8, 2)], ids=["in memory", "in a file", "in both"])
def test_it_finds_what_comparing_with_every_text_finds(monkeypatch, blocks):
    """Bands miss a near duplicate at the threshold now and then, but nothing that is far above it, and add none."""
    monkeypatch.setattr(duplicates, "_BLOCK", blocks[0])
    monkeypatch.setattr(duplicates, "_BLOCKS", blocks[1])
    monkeypatch.setattr(number_index, "_NEWEST", 50)
    rng, index, held = random.Random(2), DuplicateIndex(), {}
    near, seen = [], set()
    for step in range(160):
        if held and rng.random() < 0.6:
            text = rng.choice(list(held)).split()
            for _ in range(rng.randint(0, 6)):
                text[rng.randrange(len(text))] = f"other{step}"
            text = " ".join(text)
        else:
            text = " ".join(rng.choices([f"word{i}" for i in range(300)], k=30))
        likeness = max((np.mean(signature(text) == other) for other in held.values()), default=0.0)
        reason = index.reason(sample(text))
        assert (reason == "duplicate") == (text in held)
        if text not in held:
            near.append((likeness, reason))
            assert likeness >= 0.7 or reason == ""
            assert likeness < 0.85 or reason == "near_duplicate"
            index.add(sample(text))
            held[text] = signature(text)
        index.add(sample(text))  # once is enough
        if rng.random() < 0.3:
            gone = rng.choice(list(held))
            del held[gone]
            index.remove(sample(gone))
            index.remove(sample(gone))
            seen.add(gone)
    assert all(index.reason(sample(text)) == "duplicate" for text in held)
    assert all(index.reason(sample(text)) != "duplicate" for text in seen - held.keys())
    assert sum(reason == "near_duplicate" for _, reason in near) > 10
    assert np.mean([reason == "near_duplicate" for likeness, reason in near if likeness >= 0.7]) >= 0.8


def test_a_sample_takes_half_a_kilobyte_of_memory(monkeypatch):
    """Text and bands are 15 entries of 16 bytes; hashes beyond the first blocks are in a file."""
    monkeypatch.setattr(duplicates, "_BLOCK", 64)
    monkeypatch.setattr(duplicates, "_BLOCKS", 1)
    monkeypatch.setattr(number_index, "_NEWEST", 256)
    texts = [sample(" ".join(f"{a}{i}" for a in "abcdefghij")) for i in range(1_500)]
    index = DuplicateIndex()
    for text in texts[:500]:
        index.add(text)
    tracemalloc.start()
    duplicates._hashed.cache_clear()
    duplicates._shingles.cache_clear()
    duplicates._words.cache_clear()
    before = tracemalloc.get_traced_memory()[0]
    for text in texts[500:]:
        index.add(text)
    for cache in (duplicates._hashed, duplicates._shingles, duplicates._words):
        cache.cache_clear()
    grown = tracemalloc.get_traced_memory()[0] - before
    tracemalloc.stop()
    assert 0 < grown / 1_000 < 512
