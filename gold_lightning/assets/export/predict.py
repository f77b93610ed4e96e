"""Predicts with the student in this folder. Needs tokenizers, numpy, and onnxruntime or ctranslate2.

On the command line, with texts or with a file of texts (a text a line, or JSON Lines with the fields of the task):

    python predict.py "A text." "Another text."
    python predict.py --file texts.jsonl > predictions.jsonl

In Python, with this folder on the path:

    from predict import Student

    Student().predict(["A text.", "Another text."])
"""

import argparse
import json
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import chain, islice
from pathlib import Path
from typing import Any

import numpy as np
from calibration_rule import judge
from tokenizers import Tokenizer

HERE = Path(__file__).resolve().parent
Text = str | Mapping[str, str]

WINDOW = 64  # batches that are sorted by length together
BAD_ROWS = 3  # exit status if some rows could not be read


class Student:
    """The student of a folder.

    Args:
        folder: The folder; that of this file by default.
        threads: Threads for computing; 0 for one on each core.
    """

    def __init__(self, folder: str | Path = HERE, threads: int = 0) -> None:
        folder = Path(folder)
        settings = json.loads((folder / "gold_task.json").read_text(encoding="utf-8"))
        facts = json.loads((folder / "export.json").read_text(encoding="utf-8"))
        self.task, self.calibration = settings["task"], settings.get("calibration")
        self.fields = [field["name"] for field in self.task["fields"]]
        self.labels = [label["name"] for label in self.task.get("labels", [])]
        self.tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))  # it cuts long texts, too
        self.tokenizer.encode_special_tokens = bool(facts.get("split_special_tokens"))  # then "</s>" is text
        runtime = _Labels if facts["to"] == "onnx" else _Texts
        self.runtime = runtime(folder, self.task, facts, self.tokenizer, threads)

    def predict(self, texts: Text | Iterable[Text], batch_size: int = 32) -> Any:
        """Predicts the label of each text, or the output text of a task without labels.

        Args:
            texts: One text or several. A text is a string if the task has one field, otherwise a mapping from each
                field's name to its text. Further keys of a mapping are ignored.
            batch_size: Texts in a batch.

        Returns:
            A mapping for one text, a list of them for several: ``label`` or ``text``, ``probability``, ``energy`` and
            ``known``; for labels ``probabilities``, and ``label_set`` if the calibration promises one.

        Raises:
            ValueError: A text lacks a field of the task.
        """
        if isinstance(texts, str | Mapping):
            return next(self.stream([texts], batch_size))
        return list(self.stream(texts, batch_size))

    def stream(self, texts: Iterable[Text], batch_size: int = 32) -> Iterator[dict[str, Any]]:
        """Yields a prediction for each text, in order; holds 64 batches at a time."""
        rest = iter(texts)
        while window := list(islice(rest, WINDOW * batch_size)):
            rows = [encoding.ids for encoding in self.tokenizer.encode_batch([self.input(text) for text in window])]
            order = sorted(range(len(rows)), key=lambda i: len(rows[i]))
            size = min(batch_size, self.runtime.max_rows)
            predictions: dict[int, dict[str, Any]] = {}
            for start in range(0, len(order), size):
                places = order[start : start + size]
                predictions |= zip(places, self._predict([rows[i] for i in places]), strict=True)
            yield from (predictions[i] for i in range(len(rows)))

    def input(self, text: Text) -> str:
        """Returns what the model reads: the task's template with the fields of a text."""
        if isinstance(text, str) and len(self.fields) == 1:
            text = {self.fields[0]: text}
        if not isinstance(text, Mapping) or not all(isinstance(text.get(name), str) for name in self.fields):
            expected = f"a mapping with a text for each of {', '.join(self.fields)}" if self.fields[1:] else "a text"
            raise ValueError(f"got {text!r:.80}, expected {expected}")
        template: str = self.task["student"]["input"]
        return template.format_map({name: text[name] for name in self.fields})

    def _predict(self, rows: Sequence[Sequence[int]]) -> list[dict[str, Any]]:
        answers, log_probs, energies, best = self.runtime.scores(rows)
        result = judge(self.calibration, log_probs, energies, best)
        predictions = []
        for i, answer in enumerate(answers):
            place = 0 if best is None else int(best[i])
            values: dict[str, Any] = {"text" if best is None else "label": answer}
            values |= {"probability": float(result.probabilities[i, place]), "energy": float(energies[i])}
            values["known"] = None if result.known is None else bool(result.known[i])
            if result.label_sets is not None:
                values["label_set"] = [self.labels[j] for j in result.label_sets[i].nonzero()[0]]
            if best is not None:
                values["probabilities"] = dict(zip(self.labels, map(float, result.probabilities[i]), strict=True))
            predictions.append(values)
        return predictions


class _Labels:
    """One pass of an ONNX graph, which scores all labels."""

    def __init__(
        self, folder: Path, task: Mapping[str, Any], facts: Mapping[str, Any], tokenizer: Tokenizer, threads: int
    ) -> None:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        self.session = onnxruntime.InferenceSession(
            str(folder / "model.onnx"), options, providers=["CPUExecutionProvider"]
        )
        self.names = [label["name"] for label in task["labels"]]
        self.padding, self.max_rows = facts["padding"], facts["max_rows"]

    def scores(self, rows: Sequence[Sequence[int]]) -> tuple[list[str], Any, Any, Any]:
        tokens = np.full((len(rows), max(map(len, rows))), self.padding, np.int64)
        mask = np.zeros_like(tokens)
        for i, row in enumerate(rows):
            tokens[i, : len(row)] = row
            mask[i, : len(row)] = 1
        inputs = {"input_ids": tokens, "attention_mask": mask}
        log_probs, best, energies = self.session.run(["log_probs", "best", "energy"], inputs)
        return [self.names[i] for i in best], log_probs, energies, best


class _Texts:
    """Generation by CTranslate2, whose logits give probability and energy of the text."""

    max_rows = 2**31

    def __init__(
        self, folder: Path, task: Mapping[str, Any], facts: Mapping[str, Any], tokenizer: Tokenizer, threads: int
    ) -> None:
        import ctranslate2

        self.ids = tokenizer.get_vocab(with_added_tokens=True)
        self.translator = ctranslate2.Translator(str(folder / "model"), device="cpu", intra_threads=threads)
        self.tokenizer, self.limit = tokenizer, task["student"]["max_target_tokens"]
        template = task["student"]["target"].format_map({task["target"]["name"]: "\0"})
        self.before, self.after = (part.strip() for part in template.split("\0", 1))

    def scores(self, rows: Sequence[Sequence[int]]) -> tuple[list[str], Any, Any, None]:
        sources = [[self.tokenizer.id_to_token(token) for token in row] for row in rows]
        results = self.translator.translate_batch(
            sources,
            beam_size=1,
            max_decoding_length=self.limit,
            max_input_length=0,
            return_logits_vocab=True,
            return_end_token=True,
        )
        answers, log_probs, energies = [], [], []
        for result in results:
            tokens = [self.ids[token] for token in result.hypotheses[0]]
            logits = np.array([np.asarray(step, np.float32) for step in result.logits[0][: len(tokens)]])
            highest = logits.max(-1)
            free = highest + np.log(np.exp(logits - highest[:, None]).sum(-1))
            text = self.tokenizer.decode(tokens, skip_special_tokens=True).strip()
            answers.append(text.removeprefix(self.before).removesuffix(self.after).strip())
            log_probs.append([(logits[np.arange(len(tokens)), tokens] - free).sum()])
            energies.append(-free.mean())
        return answers, np.array(log_probs, np.float64), np.array(energies, np.float64), None


def read_lines(lines: Iterable[str], fields: Sequence[str]) -> Iterator[dict[str, str] | ValueError]:
    """Yields the fields of each line, or why it has none. JSON Lines begin with a brace; other lines are texts."""
    rest = iter(lines)
    first = next(rest, "")
    is_json = first.lstrip().startswith("{")
    for line in chain([first], rest):
        if not line.strip():
            continue
        try:
            row = json.loads(line) if is_json else {fields[0]: line.rstrip("\r\n")}
            if not isinstance(row, dict):
                raise ValueError("is no JSON object")
            if missing := [name for name in fields if not isinstance(row.get(name), str)]:
                raise ValueError(f"has no text in {missing[0]!r}")
            yield {name: row[name] for name in fields}
        except ValueError as error:
            yield error


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command line: prints a JSON object for each text."""
    parser = argparse.ArgumentParser(description="Predicts with the student in this folder; prints JSON Lines.")
    parser.add_argument("texts", nargs="*", metavar="TEXT", help="texts, for a task with one field")
    parser.add_argument("--file", help="a file with a text a line, or JSON Lines; - for standard input")
    parser.add_argument("--batch_size", type=int, default=32, help="texts in a batch (default: 32)")
    parser.add_argument("--threads", type=int, default=0, help="threads for computing (default: one on each core)")
    options = parser.parse_args(arguments)
    if bool(options.texts) == bool(options.file):
        parser.error("expected texts, or --file FILE")
    if options.batch_size < 1:
        parser.error("--batch_size: expected 1 or more")
    student = Student(threads=options.threads)
    if options.texts and len(student.fields) > 1:
        parser.error(f"expected --file with rows of {', '.join(student.fields)}, since the task has several fields")
    bad = number = 0
    with open(options.file, encoding="utf-8") if options.file and options.file != "-" else sys.stdin as file:
        rows = iter(options.texts) if options.texts else read_lines(file, student.fields)
        while window := list(islice(rows, 8 * options.batch_size)):
            predictions = student.stream([row for row in window if not isinstance(row, ValueError)], options.batch_size)
            for row in window:
                number += 1
                if isinstance(row, ValueError):
                    bad += 1
                    print(f"row {number}: {row}", file=sys.stderr)
                    values = {"error": str(row)}
                else:
                    values = next(predictions)
                print(json.dumps(values, ensure_ascii=False), flush=number % 8 == 0)
    return BAD_ROWS if bad else 0


if __name__ == "__main__":
    sys.exit(main())
