"""Fixtures of the tests of mailboxes."""

from tests.apps.mailboxes.paying import facilitator, offer, provision, sign, wallet

__all__ = ["facilitator", "offer", "provision", "sign", "wallet"]
