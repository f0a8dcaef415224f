"""The web front: one ASGI application that answers every request of one port.

Waiting requests, streams and WebSockets are native asyncio applications (``routes.py``); everything else goes to
Django's WSGI handler on a bounded pool of threads (``dispatch.py``). ARCHITECTURE.md has the measurement behind it.
"""
