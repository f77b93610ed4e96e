"""A reply for the tests of this folder, read as the continuation of a ticket."""

from gold_lightning.parsing import read_reply

TEXT = "I want my money back for the blue lamp."
REQUEST = {"answer": "queue: billing\nmessage:", "names": ("queue", "message"), "stop": ("\n",)}


def read(content, **settings):
    """Reads a reply to a request for a message about billing; the settings replace those of the request."""
    return read_reply(content, **{**REQUEST, "fresh": True, **settings})
