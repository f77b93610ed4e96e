"""Reads the body of a request: JSON, one text or several, each with the task's fields."""

from __future__ import annotations

from typing import Any

from pydantic_core import from_json

from gold_lightning.errors import ConfigError
from gold_lightning.inputs.columns import half_surrogate
from gold_lightning.serving.settings import ServeSettings
from gold_lightning.task import Task

__all__ = ["RequestError", "read_body"]


class RequestError(Exception):
    """A request that is not answered with predictions.

    Args:
        status: Status of HTTP.
        message: One line for the client.
        retry_after: Seconds after which to try again, if that may help.
    """

    def __init__(self, status: int, message: str, retry_after: int | None = None) -> None:
        super().__init__(message)
        self.status, self.retry_after = status, retry_after


def read_body(task: Task, body: bytes, settings: ServeSettings) -> tuple[list[dict[str, str]], bool]:
    """Reads the texts of a request: what :meth:`~gold_lightning.t5.inference.Inference.predict` takes, as JSON.

    Args:
        task: The task.
        body: The body.
        settings: Its limits.

    Returns:
        The fields of each text, and whether the body is a list rather than one text.

    Raises:
        RequestError: 400 if the body is not JSON, 413 if there is too much of it, 422 if a text is not as expected.
    """
    try:
        content = from_json(body, allow_inf_nan=False)
    except ValueError as e:
        raise RequestError(400, f"body: expected JSON in UTF-8 ({' '.join(str(e).split())[:120]})") from None
    if not isinstance(content, list):
        return [_fields(task, content, "", settings)], False
    if len(content) > settings.max_rows:
        raise RequestError(
            413, f"body: got {len(content):,} texts, expected at most {settings.max_rows:,} in a request"
        )
    return [_fields(task, row, f"[{at}]", settings) for at, row in enumerate(content)], True


def _fields(task: Task, row: Any, at: str, settings: ServeSettings) -> dict[str, str]:
    names = [field.name for field in task.fields]
    if isinstance(row, str) and len(names) == 1:
        row = {names[0]: row}
    elif not isinstance(row, dict):
        text = "a text, or an object" if len(names) == 1 else "an object"
        raise _wrong(at or "body", row, f"{text} with {', '.join(map(repr, names))}")
    fields: dict[str, str] = {}
    for name in names:
        key = f"{at}.{name}" if at else name
        if name not in row:
            raise _wrong(at or "body", sorted(row)[:8], f"an object with {', '.join(map(repr, names))}")
        text = row[name]
        if not isinstance(text, str):
            raise _wrong(key, text, "a text")
        if len(text) > settings.max_chars:
            raise RequestError(413, f"{key}: got {len(text):,} characters, expected at most {settings.max_chars:,}")
        if half_surrogate(text):
            raise _wrong(key, text, "whole characters, without half a surrogate pair")
        fields[name] = text
    if not any(text.strip() for text in fields.values()):
        raise _wrong(at or "body", row, "a text that is not empty")
    return fields


def _wrong(key: str, value: object, allowed: str) -> RequestError:
    return RequestError(422, str(ConfigError(key, value, allowed)))
