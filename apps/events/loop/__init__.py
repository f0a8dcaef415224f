"""The webhook loop: takes due calls from PostgreSQL and makes them, in a thread of each worker process.

sender   claims what there is room for, makes the calls, writes down what came of them
post     one request: to the address that was checked, bounded in time and size
"""

from apps.events.loop.thread import WebhookThread, wake_webhooks

__all__ = ["WebhookThread", "wake_webhooks"]
