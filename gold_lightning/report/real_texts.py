"""The report's panel of real texts (``data.unlabelled``): how many there are, and where they went."""

from __future__ import annotations

from gold_lightning.report.parts import Panel, Table
from gold_lightning.report.run import Run
from gold_lightning.unlabelled import counts_sentence, real_texts

__all__ = ["real_text_panels"]


def real_text_panels(run: Run) -> list[Panel]:
    """Returns a panel of the real texts of a run; none if it has none.

    Args:
        run: The run.
    """
    drawn = [r for r in run.rounds if real_texts(r.samples["probe"]) or real_texts(r.samples["train"])]
    if not drawn:
        return []
    rows = []
    for r in drawn:
        probes, trained_on = len(real_texts(r.samples["probe"])), len(real_texts(r.samples["train"]))
        fed_back = len(r.fed_back & {s.id for s in r.samples["probe"] if s.source == "unlabelled"})
        left = r.row.get("unlabelled", {}).get("left")
        cells = [f"{r.number}", f"{probes:,} of {len(r.samples['probe']):,}", f"{fed_back:,}"]
        rows.append([*cells, f"{trained_on:,} of {len(r.samples['train']):,}", "" if left is None else f"{left:,}"])
    notes = [
        "The probe set consists of real texts that nobody has labelled: their labels are the generator's own. Samples "
        "that are real texts are marked below."
    ]
    if lines := [r.row["unlabelled"] for r in drawn if "unlabelled" in r.row]:
        notes.insert(0, f"{counts_sentence(lines[-1])}.")
    head = ["round", "in the probe set", "fed back", "among training samples", "left"]
    return [Panel("Real texts", notes, [], [Table("Real texts by round", head, rows)])]
