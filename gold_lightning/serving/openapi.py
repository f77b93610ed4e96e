"""The OpenAPI document of a server, with the fields and labels of its task."""

from __future__ import annotations

from typing import Any

from gold_lightning import __version__
from gold_lightning.serving.settings import ServeSettings
from gold_lightning.task import Task

__all__ = ["openapi_document"]


def openapi_document(task: Task, settings: ServeSettings) -> dict[str, Any]:
    """Describes all paths of the server.

    Args:
        task: The task.
        settings: The limits of requests.

    Returns:
        A document of OpenAPI 3.1.
    """
    names = [field.name for field in task.fields]
    text = {"type": "string", "maxLength": settings.max_chars}
    row: dict[str, Any] = {
        "type": "object",
        "properties": {f.name: {**text, "description": f.description} for f in task.fields},
        "required": names,
        "example": {field.name: task.demos[0].fields[field.name] for field in task.fields},
    }
    one: dict[str, Any] = {"$ref": "#/components/schemas/Text"}
    many = {"type": "array", "items": one, "maxItems": settings.max_rows}
    answer = {"$ref": "#/components/schemas/Prediction"}
    refusals = {
        "400": "The body is not JSON in UTF-8.",
        "403": "A page of another site sends the request.",
        "408": f"The body did not arrive within {settings.read_seconds:g} s.",
        "413": f"More than {settings.max_bytes:,} bytes, {settings.max_rows:,} texts, or {settings.max_chars:,} "
        "characters in a field.",
        "422": f"A text is not {'a string or ' * (len(names) == 1)}an object with {', '.join(names)}.",
        "500": "The server failed on this request.",
        "503": "Too many texts are waiting; Retry-After has the seconds after which to try again.",
    }
    responses = {
        "200": _json("A prediction for a text, or a list of them for a list.", {"oneOf": [answer, _list(answer)]})
    }
    responses |= {status: _json(why, {"$ref": "#/components/schemas/Error"}) for status, why in refusals.items()}
    return {
        "openapi": "3.1.0",
        "info": {"title": task.name, "version": __version__, "description": task.description},
        "paths": {
            "/predict": {
                "post": {
                    "summary": f"Predicts the {task.target.name} of a text, or of each in a list.",
                    "requestBody": {"required": True, **_content({"oneOf": [one, many]})},
                    "responses": responses,
                }
            },
            "/health": {"get": _get("Answers as soon as the student is loaded.", "application/json")},
            "/metrics": {"get": _get("Counts of requests, texts and batches, for Prometheus.", "text/plain")},
            "/task": {"get": _get("Fields and labels of the task.", "application/json")},
        },
        "components": {
            "schemas": {
                "Text": {"oneOf": [text, row]} if len(names) == 1 else row,
                "Prediction": _prediction(task),
                "Error": {"type": "object", "properties": {"error": {"type": "string"}}, "required": ["error"]},
            }
        },
    }


def _prediction(task: Task) -> dict[str, Any]:
    share = {"type": "number", "minimum": 0, "maximum": 1}
    label = {"type": "string", "enum": list(task.label_names)}
    properties: dict[str, Any] = {"label": label} if task.labels else {"text": {"type": "string"}}
    if task.many:
        properties = {"labels": _list(label)}
    properties |= {
        "probability": {**share, "type": ["number", "null"]},
        "energy": {"type": "number", "description": "Higher for inputs that the student knows less."},
        "known": {
            "type": ["boolean", "null"],
            "description": "Whether the promise of the student's calibration holds; null without one.",
        },
        "source": {
            "type": "string",
            "enum": ["student", "generator"],
            "description": "Which model answered; only if the server has a fallback.",
        },
    }
    if task.labels:
        properties["probabilities"] = {"type": "object", "additionalProperties": share}
        properties["label_set"] = {**_list(label), "description": "Only if the promise is conformal."}
    if task.many:
        properties["energies"] = {"type": "object", "additionalProperties": {"type": "number"}}
    optional = ("source", "label_set", "energies", "probabilities")  # a generator has no probabilities of sets
    required = [name for name in properties if name not in optional]
    return {"type": "object", "properties": properties, "required": required}


def _list(items: dict[str, Any]) -> dict[str, Any]:
    return {"type": "array", "items": items}


def _content(schema: dict[str, Any]) -> dict[str, Any]:
    return {"content": {"application/json": {"schema": schema}}}


def _json(description: str, schema: dict[str, Any]) -> dict[str, Any]:
    return {"description": description, **_content(schema)}


def _get(summary: str, media_type: str) -> dict[str, Any]:
    return {"summary": summary, "responses": {"200": {"description": "OK", "content": {media_type: {}}}}}
