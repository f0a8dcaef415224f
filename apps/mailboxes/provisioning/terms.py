"""What an organization asks for a mailbox: its price in a token on a chain, and whom to pay."""

import re
from dataclasses import dataclass
from decimal import Decimal

from django.conf import settings
from x402.schemas import (
    PaymentRequired,
    PaymentRequirements,
    ResourceInfo,
    convert_to_token_amount,
    matches_network_pattern,
    parse_money,
)

from apps.accounts.models import Organization
from apps.core.errors import Conflict, ValidationFailed
from apps.core.texts import check_line
from apps.mailboxes.models import PaidProvisioning
from apps.mailboxes.provisioning import facilitator

SCHEME = "exact"
SIGNATURE_SECONDS = 300
"""How long a signed payment stays good: the package's own default."""
_DECIMALS = 6
_COIN_VERSION = "2"
_MAX_PRICE = 60
_AMOUNT = re.compile(r"[1-9][0-9]{0,29}")
_ADDRESS = re.compile(r"0x[0-9a-fA-F]{40}")
_CHAIN = re.compile(r"eip155:[1-9][0-9]{0,17}")


@dataclass(frozen=True, slots=True)
class CustomAsset:
    """A token of the organization's own choice, which knows EIP-3009. Its price is given in its smallest unit."""

    address: str
    name: str
    version: str


@dataclass(frozen=True, slots=True)
class _Coin:
    """USDC on a chain, as the x402 package has it in a part that needs a whole Ethereum library to be imported."""

    network: str
    asset: str
    name: str


COINS = {
    "base": _Coin("eip155:8453", "0x833589fCD6eDb6E08f4c7C32D4f71b54bdA02913", "USD Coin"),
    "base-sepolia": _Coin("eip155:84532", "0x036CbD53842c5426634e7929541eC2318f3dCF7e", "USDC"),
    "ethereum": _Coin("eip155:1", "0xA0b86991c6218b36c1d19D4a2e9Eb0cE3606eB48", "USD Coin"),
    "arbitrum": _Coin("eip155:42161", "0xaf88d065e77c8cC2239327C5EDb3A432268e5831", "USD Coin"),
    "avalanche": _Coin("eip155:43114", "0xB97EF9Ef8734C71904D8002F8b6Bc66Dd9c48a6E", "USD Coin"),
    "polygon": _Coin("eip155:137", "0x3c499c542cEF5E3811e1192ce70d8cC03d5c3359", "USD Coin"),
}
"""By the names that x402 version 1 gave them. All have six decimals and version 2 of their EIP-712 domain."""


def turn_on(
    *,
    organization: Organization,
    price: str,
    pay_to: str,
    network: str = "base-sepolia",
    asset: CustomAsset | None = None,
) -> PaidProvisioning:
    """From now on mailboxes that the organization's keys make are paid for; the terms replace those there were.

    `price` is in US dollars (`0.05`, `$0.05`, `0.05 USDC`); with an `asset` it is a whole number of its smallest
    unit. `network` is a name of COINS, or `eip155:<number>`. Raises ValidationFailed, Conflict when there is no
    facilitator or it does not settle there, FacilitatorAway.
    """
    if settings.MAILHOST_X402_FACILITATOR is None:
        raise Conflict("Nobody can settle payments here.", fix="Set MAILHOST_X402_FACILITATOR.")
    coin = COINS.get(network) or next((coin for coin in COINS.values() if coin.network == network), None)
    chain = coin.network if coin is not None else network
    if _CHAIN.fullmatch(chain) is None:
        raise ValidationFailed("network", f"A network is {', '.join(COINS)}, or eip155: and a chain's number.")
    if asset is None and coin is None:
        raise ValidationFailed("network", f"Say which token is paid with on {chain}.")
    _check_address("pay_to", pay_to)
    fields = {"network": chain, "pay_to": pay_to}
    if asset is not None:
        fields |= _price_in_units(price, asset)
    elif coin is not None:
        fields |= _price_in_dollars(price, coin)
    _check_facilitator(chain)
    offer, _ = PaidProvisioning.objects.update_or_create(organization=organization, defaults=fields)
    return offer


def turn_off(*, organization: Organization) -> bool:
    """Mailboxes cost nothing again; False when they did not cost anything. What is paid already stays recorded."""
    deleted, _ = PaidProvisioning.objects.filter(organization=organization).delete()
    return bool(deleted)


def make_requirements(offer: PaidProvisioning) -> PaymentRequirements:
    """The terms as x402 writes them."""
    return PaymentRequirements(
        scheme=SCHEME,
        network=offer.network,
        asset=offer.asset,
        amount=offer.amount,
        pay_to=offer.pay_to,
        max_timeout_seconds=SIGNATURE_SECONDS,
        extra={"name": offer.asset_name, "version": offer.asset_version},
    )


def make_challenge(requirements: PaymentRequirements, *, resource_url: str, reason: str) -> PaymentRequired:
    """What a client is told that has not paid, or not well."""
    resource = ResourceInfo(url=resource_url, description="One mailbox", mime_type="application/json")
    return PaymentRequired(error=reason, resource=resource, accepts=[requirements])


def _price_in_dollars(price: str, coin: _Coin) -> dict[str, str]:
    if len(price) > _MAX_PRICE:
        raise ValidationFailed("price", f"A price has at most {_MAX_PRICE} characters.")
    try:
        money = parse_money(price)
    except ValueError:
        raise ValidationFailed("price", "A price is a number of US dollars, like 0.05.") from None
    if money.get("symbol", "USDC") != "USDC":
        raise ValidationFailed("price", "Prices are in US dollars, paid in USDC.")
    amount = convert_to_token_amount(money["amount"], _DECIMALS)
    if Decimal(amount) != Decimal(money["amount"]).scaleb(_DECIMALS):  # the package cuts off what is finer
        raise ValidationFailed("price", f"A price has at most {_DECIMALS} decimals.")
    return {
        "price": f"{money['amount']} USDC",
        "amount": _check_amount(amount),
        "asset": coin.asset,
        "asset_name": coin.name,
        "asset_version": _COIN_VERSION,
    }


def _price_in_units(price: str, asset: CustomAsset) -> dict[str, str]:
    _check_address("asset", asset.address)
    check_line("asset_name", asset.name, least=1, most=60)
    check_line("asset_version", asset.version, least=1, most=20)
    amount = _check_amount(price)
    return {
        "price": f"{amount} units of {asset.name}",
        "amount": amount,
        "asset": asset.address,
        "asset_name": asset.name,
        "asset_version": asset.version,
    }


def _check_amount(amount: str) -> str:
    if _AMOUNT.fullmatch(amount) is None:
        raise ValidationFailed("price", "A price is more than 0, and in a token's own unit a whole number.")
    return amount


def _check_address(field: str, address: str) -> None:
    if _ADDRESS.fullmatch(address) is None or int(address, 16) == 0:
        raise ValidationFailed(field, f"{field} is 0x and 40 hexadecimal digits, not all of them zero.")


def _check_facilitator(network: str) -> None:
    """Better now than when the first agent has signed."""
    for kind in facilitator.list_supported().kinds:
        if kind.x402_version == 2 and kind.scheme == SCHEME and matches_network_pattern(network, kind.network):
            return
    raise Conflict(
        f"The facilitator settles no payments of x402 version 2 on {network}.", fix="Choose another network."
    )
