"""Requests that wait: for mail, or for the next event. They run on the web process's event loop and hold no thread."""
