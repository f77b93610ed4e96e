"""Says what to change so that fewer completions are rejected for a reason."""

from __future__ import annotations

__all__ = ["WHAT_TO_CHANGE", "what_to_change"]

WHAT_TO_CHANGE = {
    "filtered": "wording of the task and its demos that no filter takes amiss, a server with a milder filter, "
    "or another data.generator",
    "failed": "another server, or later, or fewer demos if the prompt is too long: the server gave no answer",
    "only_thinking": "a generator that answers without thinking: a reasoning parser of the server, "
    "init_args.extra {chat_template_kwargs: {enable_thinking: false}}, or a higher max_sample_tokens of the task",
    "talk": "a generator tuned for instructions, its init_args.form, or demos that differ more",
    "refusal": "milder wording of the task and its demos, another data.generator, or allow_refusals: true in a task "
    "about refusals",
    "empty": "another data.generator, or its init_args.form",
    "truncated": "a higher max_sample_tokens of the task (thinking counts too), or shorter demos",
    "not_unicode": "another data.generator, or a server that does not cut characters in two",
    "unparsable": "another data.generator, its init_args.form, init_args.continue_answer if its server can do that, "
    "or simpler demos",
    "missing_field": "another data.generator, its init_args.form, init_args.continue_answer if its server can do that, "
    "or fewer fields",
    "too_short": "longer demos, or a lower min_chars of the field",
    "too_long": "shorter demos, or a higher max_chars of the field",
    "several_lines": "multiline: true for the field, or a description that says it is one line",
    "too_many_sentences": "shorter demos, cut_at_sentence: true or a higher max_sentences of the field",
    "wrong_label": "meanings of the labels that are further apart, or another data.generator",
    "label_not_in_set": "names of the labels that are common words, or another data.generator",
    "label_disagreement": "clearer meanings and demos of the labels, another data.generator, "
    "or data.plan.label_agreement: measure",
    "label_unchecked": "another data.generator, or data.plan.label_agreement: off (it does not answer with a label)",
    "copies_demo": "more demos that differ more, or another data.generator",
    "copies_prompt": "another data.generator, or its init_args.form",
    "duplicate": "more hints in the task, or a higher temperature of the generator",
    "near_duplicate": "more hints in the task, or a higher temperature of the generator",
    "semantic_duplicate": "more hints in the task, or a higher data.plan.semantic_duplicate",
}
"""What to change, by the reason of a reject."""


def what_to_change(reason: str) -> str:
    """Returns what to change so that fewer completions are rejected for a reason; checks of one's own get the usual.

    Args:
        reason: The reason of a reject.
    """
    return WHAT_TO_CHANGE.get(reason, "demos that keep to the task's checks more plainly, or another data.generator")
