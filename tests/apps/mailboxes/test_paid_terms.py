"""Turning paid provisioning on and off: the command, prices, and what a facilitator must be able to do."""

import ast
import json
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
import x402
from django.core.management import CommandError, call_command

from apps.accounts.models import Organization
from apps.accounts.services import create_organization
from apps.core.errors import DomainError, ValidationFailed
from apps.core.ids import encode_id
from apps.mailboxes.models import PaidProvisioning
from apps.mailboxes.provisioning import COINS, CustomAsset, turn_on
from tests.apps.mailboxes.paying import PAY_TO
from tests.fakes.facilitator import FakeFacilitator

pytestmark = pytest.mark.django_db
TOKEN = CustomAsset("0x" + "12" * 20, "Token", "1")


def run(*arguments: str) -> str:
    out = StringIO()
    call_command("paid_provisioning", *arguments, stdout=out)
    return out.getvalue().strip()


class TestCommand:
    def test_it_turns_on_shows_and_turns_off(self, organization: Organization, facilitator: FakeFacilitator) -> None:
        organization_id = encode_id("org", organization.id)
        assert run("Acme") == "Mailboxes of Acme cost nothing."
        on = json.loads(run("Acme", "--price", "0.05", "--pay-to", PAY_TO, "--json"))
        assert on == {
            "organization_id": organization_id,
            "paid": True,
            "price": "0.05 USDC",
            "amount": "50000",
            "asset": COINS["base-sepolia"].asset,
            "asset_name": "USDC",
            "asset_version": "2",
            "network": "eip155:84532",
            "pay_to": PAY_TO,
        }
        assert facilitator.calls == ["supported"]
        assert json.loads(run(organization_id, "--json")) == on
        assert run("Acme") == f"A mailbox of Acme costs 0.05 USDC to {PAY_TO} on eip155:84532."
        assert json.loads(run("Acme", "--off", "--json")) == {"organization_id": organization_id, "paid": False}
        assert run("Acme", "--off") == "Mailboxes of Acme cost nothing."

    def test_new_terms_replace_the_old_ones(self, organization: Organization, facilitator: FakeFacilitator) -> None:
        facilitator.kinds.append({"x402Version": 2, "scheme": "exact", "network": "eip155:*"})
        run("Acme", "--price", "0.05", "--pay-to", PAY_TO)
        token = ["--asset", TOKEN.address, "--asset-name", "Token", "--asset-version", "1"]
        run("Acme", "--price", "7", "--pay-to", "0x" + "33" * 20, "--network", "eip155:42", *token)
        offer = PaidProvisioning.objects.get()
        assert (offer.price, offer.amount, offer.asset) == ("7 units of Token", "7", TOKEN.address)
        assert (offer.network, offer.pay_to) == ("eip155:42", "0x" + "33" * 20)

    @pytest.mark.parametrize(
        ("arguments", "sentence"),
        [
            (["Nobody", "--off"], "There is no organization"),
            (["Twice", "--off"], "Several organizations"),
            (["Acme", "--price", "0.05"], "Say whom to pay"),
            (["Acme", "--price", "much", "--pay-to", PAY_TO], "a number of US dollars"),
            (["Acme", "--price", "1", "--pay-to", "0x12"], "pay_to is 0x and 40"),
            (["Acme", "--price", "1", "--pay-to", PAY_TO, "--network", "base"], "settles no payments"),
        ],
    )
    def test_what_is_wrong_is_said_in_a_sentence(
        self, organization: Organization, facilitator: FakeFacilitator, now: Any, arguments: list[str], sentence: str
    ) -> None:
        for _ in range(2):
            create_organization(name="Twice", now=now)
        with pytest.raises(CommandError, match=sentence):
            run(*arguments)
        assert not PaidProvisioning.objects.exists()

    def test_it_needs_a_facilitator_that_answers(
        self, organization: Organization, facilitator: FakeFacilitator, settings: Any
    ) -> None:
        facilitator.stop()
        with pytest.raises(CommandError, match="does not answer"):
            run("Acme", "--price", "0.05", "--pay-to", PAY_TO)
        settings.MAILHOST_X402_FACILITATOR = None
        with pytest.raises(CommandError, match="MAILHOST_X402_FACILITATOR"):
            run("Acme", "--price", "0.05", "--pay-to", PAY_TO)
        assert not PaidProvisioning.objects.exists()
        run("Acme", "--off")

    def test_it_shows_a_login_of_the_facilitator_s_url_to_nobody_but_it(
        self, organization: Organization, facilitator: FakeFacilitator, settings: Any
    ) -> None:
        settings.MAILHOST_X402_FACILITATOR = facilitator.url.replace("://", "://me:p%40ss@") + "/"
        run("Acme", "--price", "0.05", "--pay-to", PAY_TO)
        assert facilitator.calls == ["supported"]
        assert facilitator.headers[-1]["Authorization"] == "Basic bWU6cEBzcw=="
        assert "me" not in facilitator.headers[-1]["Host"]


class TestPrices:
    @pytest.mark.parametrize(
        ("price", "amount"),
        [("0.05", "50000"), ("$0.05", "50000"), ("0.050 USDC", "50000"), ("2 USD", "2000000"), ("0.000001", "1")],
    )
    def test_dollars(self, organization: Organization, facilitator: FakeFacilitator, price: str, amount: str) -> None:
        assert turn_on(organization=organization, price=price, pay_to=PAY_TO).amount == amount

    @pytest.mark.parametrize(
        "price",
        ["", "0", "0.00", "-1", "1e3", "1,5", "0.0000001", "1 EUR", "1USDC", "\u0663", "9" * 61, "9" * 30, "NaN", "\0"],
    )
    def test_what_is_no_price(self, organization: Organization, facilitator: FakeFacilitator, price: str) -> None:
        with pytest.raises(ValidationFailed):
            turn_on(organization=organization, price=price, pay_to=PAY_TO)
        assert facilitator.calls == []

    @pytest.mark.parametrize("price", ["", "0", "0.5", "-1", "07", "$1", "9" * 31])
    def test_what_is_no_number_of_units(
        self, organization: Organization, facilitator: FakeFacilitator, price: str
    ) -> None:
        with pytest.raises(ValidationFailed):
            turn_on(organization=organization, price=price, pay_to=PAY_TO, asset=TOKEN)

    @pytest.mark.parametrize(
        "changes",
        [
            {"pay_to": "0x" + "0" * 40},
            {"pay_to": "0x" + "12" * 20 + "\n"},
            {"network": "solana:mainnet"},
            {"network": "eip155:42"},
            {"network": "eip155:0"},
            {"asset": CustomAsset("0x12", "Token", "1")},
            {"asset": CustomAsset(TOKEN.address, "", "1")},
            {"asset": CustomAsset(TOKEN.address, "Token", "")},
            {"asset": CustomAsset(TOKEN.address, "To\nken", "1")},
            {"asset": CustomAsset(TOKEN.address, "T" * 61, "1")},
        ],
    )
    def test_what_else_is_refused(
        self, organization: Organization, facilitator: FakeFacilitator, changes: dict[str, Any]
    ) -> None:
        with pytest.raises(ValidationFailed):
            turn_on(organization=organization, **{"price": "1", "pay_to": PAY_TO, **changes})

    @pytest.mark.parametrize(
        "kinds",
        [
            [],
            [{"x402Version": 1, "scheme": "exact", "network": "base-sepolia"}],
            [{"x402Version": 2, "scheme": "upto", "network": "eip155:84532"}],
            [{"x402Version": 2, "scheme": "exact", "network": "eip155:8453"}],
        ],
    )
    def test_a_facilitator_that_cannot_settle_it_is_found_out_at_once(
        self, organization: Organization, facilitator: FakeFacilitator, kinds: list[dict[str, Any]]
    ) -> None:
        facilitator.kinds[:] = kinds
        with pytest.raises(DomainError, match="settles no payments"):
            turn_on(organization=organization, price="1", pay_to=PAY_TO)


def test_our_coins_are_the_package_s() -> None:
    """Theirs cannot be imported without an Ethereum library, so they are read from the source."""
    folder = Path(x402.__file__).parent / "mechanisms" / "evm"
    tree = ast.parse((folder / "default_assets.py").read_text())
    (value,) = (
        node.value
        for node in tree.body
        if isinstance(node, ast.AnnAssign) and ast.unparse(node.target) == "DEFAULT_ASSETS"
    )
    theirs = {network: assets[0] for network, assets in ast.literal_eval(value).items()}
    for coin in COINS.values():
        asset = theirs[coin.network]
        assert (asset["asset"], asset["name"]) == (coin.asset, coin.name)
        assert (asset["version"], asset["decimals"], asset["symbol"]) == ("2", 6, "USDC")
        assert "asset_transfer_method" not in asset  # EIP-3009
