"""Students of random weights for exports: one that chooses among labels, one that generates text."""

import json

import yaml
from gold_lightning.student import T5Student

LABELS = ("A", "A b", "a longer label")  # the first begins the second
TEXTS = ["x", "a text that is a good deal longer than the others", "", "middling text", "été 漢字", "y" * 300]


def task_file(path, labels=LABELS, fields=("text",), **more):
    """Writes the task file of such a student, and returns its path."""
    demos = [{name: f"{name} {i}" for name in fields} | {"answer": label} for i, label in enumerate(labels or ("z",))]
    document = {
        "name": "toy",
        "description": "Toy rows.",
        "fields": [{"name": name, "description": "a text"} for name in fields],
        "target": {"name": "answer", "description": "its answer"},
        "labels": [{"name": label, "meaning": label} for label in labels],
        "demos": demos,
        "student": {
            "input": "toy: " + " ".join(f"{{{name}}}" for name in fields),
            "max_input_tokens": 64,
            "max_target_tokens": 18,
        },
        **more,
    }
    path.write_text(yaml.safe_dump({key: value for key, value in document.items() if value}))
    return str(path)


def write_student(folder, t5, task, **how):
    """Writes a student as ``fit`` leaves it, and returns its folder."""
    student = T5Student(task=task, student=str(t5), **how)
    student.export(folder, {f"model.{name}": weight for name, weight in student.model.state_dict().items()})
    return folder


def write_rows(path, rows):
    """Writes JSON Lines, and returns the path."""
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path
