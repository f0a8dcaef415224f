"""Fixtures of the tests of mailboxes."""

from tests.apps.mailboxes.paying import facilitator, offer, wallet

__all__ = ["facilitator", "offer", "wallet"]
