"""The delivery loop: takes due deliveries from PostgreSQL and hands them to mail servers, without a barrier.

One loop per worker process, in a thread of its own with its own event loop:

    dispatcher   claims what is due, renews leases, reclaims expired ones
    channels     one per destination: a queue and a few connections that are used for many mails
    routes       where a destination's servers are
    recorder     writes results down in batches, as they come
"""

from apps.delivery.loop.dispatcher import Dispatcher
from apps.delivery.loop.thread import DeliveryThread, wake_delivery

__all__ = ["DeliveryThread", "Dispatcher", "wake_delivery"]
