"""Mailboxes that are paid for, by x402 version 2: https://github.com/x402-foundation/x402/tree/main/specs

`terms` says what an organization asks, `payments` reads what a client signed, `facilitator` asks the one who checks
and settles it on the chain, `settlement` keeps each payment's row, and `provision` puts them together.
"""

from apps.mailboxes.provisioning.provision import Provisioned, provision_mailbox
from apps.mailboxes.provisioning.terms import COINS, CustomAsset, turn_off, turn_on

__all__ = ["COINS", "CustomAsset", "Provisioned", "provision_mailbox", "turn_off", "turn_on"]
