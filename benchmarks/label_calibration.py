"""Accuracy of the label check on labelled rows, by kind of calibration and form of the prompt.

    python benchmarks/label_calibration.py --task news_topics
    python benchmarks/label_calibration.py --task mnli --rows FILE --count 120 --skip 120

Rows are scored batch by batch, as a run does it, once with their label as the requested one and once without. All kinds
of calibration read the same completions. ``text`` asks in plain text, ``turns`` in the chat template, with demos as
turns.
"""

from __future__ import annotations

import argparse
import random
from pathlib import Path

from gold_lightning.checks.label_agreement import LabelCheck
from gold_lightning.generators import EmbeddedGenerator, TransformersGenerator
from gold_lightning.labelled import load_rows
from gold_lightning.task import Task


class InPlainText(EmbeddedGenerator):
    def _form(self, request):
        return "completion"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--task", default="news_topics")
    parser.add_argument("--rows", help="labelled rows; the task's own test rows by default")
    parser.add_argument("--count", type=int, default=120)
    parser.add_argument("--skip", type=int, default=0, help="leave out so many of the shuffled rows")
    parser.add_argument("--batch-size", type=int, default=16)
    parser.add_argument("--model", help="folder, hub id or GGUF file; the embedded generator by default")
    args = parser.parse_args()
    task = Task.load(args.task)
    rows = load_rows(task, args.rows or str(Path(task.source).parent / task.test.file))
    random.Random(0).shuffle(rows)
    rows = rows[args.skip : args.skip + args.count]
    if args.model:
        engines = {
            "text": TransformersGenerator(args.model, args.batch_size, form="completion"),
            "turns": TransformersGenerator(args.model, args.batch_size, form="chat"),
        }
    else:
        engines = {"text": InPlainText(args.batch_size), "turns": EmbeddedGenerator(args.batch_size)}
    print(f"{task.name}, {len(rows)} rows; accuracy in %, label requested / unknown")
    for form, engine in engines.items():
        known = {}

        def answer(requests, _, engine=engine, known=known):
            new = [request for request in requests if request not in known]
            known.update(zip(new, engine.generate(new), strict=True))
            return [known[request] for request in requests]

        for kind in ("batch", "contextual", "none"):
            shares = []
            for labels in ([row.target for row in rows], []):
                check = LabelCheck(task, 1, False, answer, engine.tokens_over_limit, kind)
                scored = []
                for at in range(0, len(rows), args.batch_size):
                    batch = slice(at, at + args.batch_size)
                    scored += check.score([row.fields for row in rows[batch]], 0, labels[batch])[0]
                right = sum(s is not None and s.label == row.target for s, row in zip(scored, rows, strict=True))
                shares.append(f"{100 * right / len(rows):.1f}")
            print(f"{form:6} {kind:11} {' / '.join(shares)}", flush=True)
        engine.release()


if __name__ == "__main__":
    main()
