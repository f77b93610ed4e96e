"""Pushes a folder to a Hugging Face hub; errors of the hub become one line each."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from gold_lightning.errors import ConfigError, GoldError

__all__ = ["STUDENT_FILES", "check_repo", "push_folder"]

STUDENT_FILES = (
    "README.md",
    "gold_task.json",
    "config.json",
    "generation_config.json",
    "model*.safetensors",
    "model.safetensors.index.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.json",
    "merges.txt",
    "*.model",
    "chat_template.jinja",
)
"""Files of a student's folder that are pushed; whatever else lies there stays on the machine."""


def check_repo(repo: str) -> None:
    """Refuses a name that no repository of the hub can have.

    Args:
        repo: ``user/name`` or ``organisation/name``.

    Raises:
        ConfigError: It is not of that form.
    """
    from huggingface_hub.errors import HFValidationError
    from huggingface_hub.utils import validate_repo_id  # type: ignore[attr-defined] # documented, but not in __all__

    try:
        validate_repo_id(repo)
    except HFValidationError:
        raise ConfigError("REPO", repo, "user/name, of letters, digits, - _ and .") from None
    if repo.count("/") != 1:
        raise ConfigError("REPO", repo, "user/name or organisation/name")


def push_folder(folder: Path, repo: str, *, kind: str, files: Sequence[str], public: bool, message: str) -> str:
    """Creates a repository if there is none, and uploads the files of a folder in one commit.

    The hub is that of ``HF_ENDPOINT``, and the token that of ``HF_TOKEN`` or of ``hf auth login``.

    Args:
        folder: The folder.
        repo: ``user/name``.
        kind: ``model`` or ``dataset``.
        files: Names or patterns of the files to upload.
        public: Whether a new repository can be read by everybody. One that exists stays as it is.
        message: Of the commit.

    Returns:
        The address of the commit.

    Raises:
        GoldError: The hub cannot be reached, knows no such user or token, or refuses the files.
    """
    from huggingface_hub import HfApi

    check_repo(repo)
    api = HfApi(endpoint=os.environ.get("HF_ENDPOINT"), library_name="gold-lightning")
    with _one_line(repo, api.endpoint):
        api.create_repo(repo, repo_type=kind, private=not public, exist_ok=True)
        commit = api.upload_folder(
            repo_id=repo,
            repo_type=kind,
            folder_path=folder,
            allow_patterns=list(files),
            commit_message=message,
        )
    return str(commit.commit_url)


@contextmanager
def _one_line(repo: str, endpoint: str) -> Iterator[None]:
    from huggingface_hub.errors import HfHubHTTPError, LocalTokenNotFoundError, OfflineModeIsEnabled

    try:
        yield
    except LocalTokenNotFoundError:
        raise GoldError(_NO_TOKEN) from None
    except OfflineModeIsEnabled:
        raise GoldError(f"push to {repo}: HF_HUB_OFFLINE is set; unset it to push") from None
    except HfHubHTTPError as e:
        status = e.response.status_code if e.response is not None else 0
        said = " ".join(str(e.server_message or "").split())
        if status == 401:
            raise GoldError(_NO_TOKEN) from None
        if status == 403:
            hint = "take a token that may write to this account"
            raise GoldError(f"push to {repo}: {endpoint} refuses this token (403{_said(said)}); {hint}") from None
        raise GoldError(f"push to {repo}: {endpoint} answered {status}{_said(said)}; try again later") from None
    except Exception as e:
        if not isinstance(e, OSError) and type(e).__module__.split(".")[0] not in _CLIENTS:
            raise
        reason = " ".join(str(e).split()) or type(e).__name__
        raise GoldError(f"push to {repo}: {endpoint} cannot be reached ({reason}); try again later") from None


_CLIENTS = ("httpx", "httpx2")  # the hub's package sends with one or the other, by its version
_NO_TOKEN = "push: expected a token of the hub that may write, in HF_TOKEN or by `hf auth login`"


def _said(message: str) -> str:
    return f": {message[:200]}" if message else ""
