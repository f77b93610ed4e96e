"""Content, thinking and refusals that an interface returns in parts."""

from tests.parsing.replies import TEXT, read


def test_no_text_beside_thinking_that_came_apart():
    assert read(None, thought=True).reason == "only_thinking"
    assert read("", thought=False).reason == read("<think>\n</think>", thought=False).reason == ""


def test_content_in_parts():
    parts = [
        {"type": "thinking", "thinking": [{"type": "text", "text": "Let me see."}]},
        {"type": "text", "text": "I want my money back "},
        {"type": "output_text", "text": {"value": "for the blue lamp.", "annotations": []}},
    ]
    assert read(parts).text == TEXT
    assert read([TEXT]).text == read([{"text": TEXT}]).text == TEXT
    assert read(None).text == read([]).text == read([{"type": "image_url", "image_url": "x"}, 7]).text == ""


def test_a_refusal_of_the_interface():
    reply = read([{"type": "refusal", "refusal": "No."}])
    assert (reply.text, reply.reason) == ("No.", "refusal")
