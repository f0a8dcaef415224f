"""What keeps an embedded server from running; the message is one sentence for the operator."""


class EmbeddedError(Exception):
    """An embedded server cannot run."""
