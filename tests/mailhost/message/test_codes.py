"""One-time codes and verification links, in mails as they come: several languages, and what only looks like them."""

import time

import pytest

from mailhost.message.codes import Extracted, extract_codes

CODES = [
    # subject, text, code
    ("Your verification code", "Hi Ada,\n\nYour verification code is 482913.\n\nIt expires in 10 minutes.", "482913"),
    ("Sign in to Acme", "Use this code to sign in:\n\n  739 204\n\nIf you did not ask, ignore this mail.", "739204"),
    ("482913 is your Acme verification code", "Open the app to continue.", "482913"),
    ("Acme: 4821 is your login code", "It was asked for from Berlin on May 4, 2026 at 10:42.", "4821"),
    ("Security alert", "G-582041 is your Google verification code.", "582041"),
    ("Verify", "Enter the following code in your browser:\n\nXK7-9PQ\n\nThanks,\nThe Team", "XK7-9PQ"),
    ("Confirm", "Your one-time passcode: 00481923", "00481923"),
    ("Your sign-in code", "Here it is\n\n**918273**\n\nCopyright 2026 Acme Inc., 94107 San Francisco", "918273"),
    ("OTP", "OTP: 5512. Do not share it. Order 8812345 is not affected. Call +1 555 010 9999.", "5512"),
    ("Hi", "Dear customer, 650112 is the OTP for your transaction of INR 2500 at 10:15 on 04-05-2026.", "650112"),
    ("Login", "Your code: BXQZPR", "BXQZPR"),
    ("Login", "Your temporary code is\nsugar: no\n a8f3k2\n", "a8f3k2"),
    ("Ihr Sicherheitscode", "Guten Tag,\n\nIhr Sicherheitscode lautet: 204817\n\nEr ist 15 Minuten gültig.", "204817"),
    ("Anmeldung", "Bitte geben Sie den Bestätigungscode 771203 ein. Kundennummer 99887766.", "771203"),
    ("Connexion", "Votre code de vérification est 118 204. Il expire dans 5 minutes.", "118204"),
    ("Código", "Tu código de verificación es: 993041", "993041"),
    ("Accesso", "Il tuo codice di verifica è 551902", "551902"),
    ("Inloggen", "Je verificatiecode is 330912.", "330912"),
    ("Logowanie", "Twój kod weryfikacyjny to 882134", "882134"),
    ("Giriş", "Doğrulama kodunuz: 440127", "440127"),
    ("Вход", "Ваш код подтверждения: 620914. Никому его не сообщайте.", "620914"),
    ("验证码", "您的验证码为654321，请在5分钟内输入。", "654321"),
    ("確認", "認証コード: 203948\n有効期限は10分です。", "203948"),
    ("인증", "인증번호는 [384756] 입니다.", "384756"),
    ("رمز", "رمز التحقق الخاص بك هو 774411", "774411"),
    ("全角", "認証コード：１２３４５６", "123456"),
    ("Almost there", "Enter this PIN: 2031 to continue.", "2031"),
    ("Boxes", "Your code\n4\n8\n1\n2\n9\n0\nValid for 10 minutes", "481290"),
    ("Spaced", "Your code is 4 8 1 2 9 0", "481290"),
    ("Fwd", "Someone tried to log in. Code - 7719-2204 - is valid until 12:30.", "77192204"),
    ("Slack confirmation code: ABC-1Z9", "Your confirmation code is below.", "ABC-1Z9"),
    ("Your authentication code", "We received a request.\n\n604218\n\n1600 Amphitheatre Pkwy, CA 94043", "604218"),
    ("Weekly code", "Promo code SAVE20 for you. Your verification code is 104725.", "104725"),
    ("Sign in", "Enter 55-10-23 as your one-time code", "551023"),
]


@pytest.mark.parametrize(("subject", "text", "code"), CODES)
def test_the_code_is_found_whatever_stands_around_it(subject: str, text: str, code: str) -> None:
    assert extract_codes(subject=subject, text=text).otp_code == code


NO_CODES = [
    ("Your order 1234567", "Thank you! Order number 1234567, total $1999. Delivered by 2026."),
    ("Invoice 2026-0042", "Invoice 20260042 of May 2026 over 1999 EUR is due on 04.05.2026."),
    ("Happy new year 2026", "Since 1998 we wish you a happy 2026."),
    ("Spring sale", "Use code SPRING25 at checkout and save 25%. Discount code: SAVE2026"),
    ("Hello", "Call me at +49 30 123456 or 555-1234, ext. 4821. My zip code is 94107."),
    ("Meeting", "See you on 12/05/2026 at 10:30 in room 4021."),
    ("CI failed", "Build 482913 failed with error code 500. See https://ci.example/build/482913?code=123456"),
    ("Re: numbers", "We had 123456 users and 4711 orders, 10000 points for you."),
    ("Ticket #482913", "Your ticket 482913 was updated. Reference: AB12345."),
    ("Code review", "Please do the code review of PR 4821 by 2026. The source code has 48000 lines."),
    ("Tracking", "Your parcel 1Z9998 is on its way. Tracking code: ZX99812345"),
    ("Postleitzahl", "Bestellnummer: 4711023, Rechnungsnummer 998877, Betrag 1234 EUR, Kundennummer 445566"),
    ("Code of conduct", "Our code of conduct changed in 2024."),
    ("Verify your email", "Click the link: https://acme.example/verify?token=123456"),
    ("Card", "Your card ending in 4242 was charged. Amount: 1200 USD"),
]


@pytest.mark.parametrize(("subject", "text"), NO_CODES)
def test_other_numbers_are_no_codes(subject: str, text: str) -> None:
    assert extract_codes(subject=subject, text=text).otp_code is None


HTML = """<html><head><style>.a{{color:#123456}}</style><title>Code 111111</title></head><body>
<table><tr><td><img src="https://cdn.example/logo-222222.png" alt="Acme"></td></tr>
<tr><td><h1>{heading}</h1><p>{body}</p></td></tr>
<tr><td style="font-size:10px">© 2026 Acme Inc., 548 Market St 94104<br>
<a href="https://acme.example/unsubscribe?token=abcdefabcdefabcdef012345">Unsubscribe</a> ·
<a href="https://acme.example/privacy">Privacy</a> · <a href="https://twitter.com/acme">Twitter</a></td></tr></table>
</body></html>"""


def test_a_code_in_html_alone_is_found() -> None:
    html = HTML.format(heading="Your login code", body='<span style="letter-spacing:8px">904 113</span>')
    assert extract_codes(subject="Log in to Acme", text="", html=html) == Extracted("904113", None)


def test_a_stub_of_plain_text_does_not_hide_what_the_html_says() -> None:
    html = HTML.format(heading="Code", body="Enter <b>7X9K2P</b> to go on. Your verification code: 7X9K2P")
    assert extract_codes(subject="Hi", text="View this mail in a browser.", html=html).otp_code == "7X9K2P"


def test_digits_in_cells_of_a_table_are_one_code() -> None:
    cells = "".join(f"<td>{digit}</td>" for digit in "581204")
    html = f"<p>Your verification code:</p><table><tr>{cells}</tr></table>"
    assert extract_codes(subject="", text="", html=html).otp_code == "581204"


@pytest.mark.parametrize(
    ("anchor", "address"),
    [
        ("Verify your email", "https://acme.example/auth/verify-email?token=eyJhbGciOiJIUzI1NiJ9.eyJ1IjoxfQ.x"),
        ("Confirm my account", "https://u123.ct.sendgrid.net/ls/click?upn=u001.AbCdEf0123456789-2Bxyz"),
        ("Activate", "https://acme.example/a/9f8e7d6c5b4a39281706"),
        ("Sign in to Acme", "https://acme.example/magic?t=0123456789abcdef0123"),
        ("E-Mail-Adresse bestätigen", "https://acme.example/r/0123456789abcdef0123"),
        ("Confirmer mon adresse", "https://acme.example/c/0123456789abcdef0123"),
        ("Confirmar correo", "https://acme.example/c/0123456789abcdef0123"),
        ("メールアドレスを認証する", "https://acme.example/c/0123456789abcdef0123"),
        ("验证邮箱", "https://acme.example/c/0123456789abcdef0123"),
        ("Accept invitation", "https://acme.example/invite/0123456789abcdef0123"),
        ("Reset password", "https://acme.example/password/reset?key=0123456789abcdef0123"),
    ],
)
def test_the_verification_link_is_found_among_others(anchor: str, address: str) -> None:
    link = f'<a href="{address}">{anchor}</a>'
    html = HTML.format(heading="Welcome", body=f'Hello! {link} Or visit <a href="https://acme.example/">our site</a>.')
    assert extract_codes(subject="Welcome", text="", html=html).verification_link == address


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("Verify your email address:\nhttps://acme.example/v/0123456789abcdef01.\n", "https://acme.example/v/0123456789abcdef01"),
        ("Open https://acme.example/confirm?id=7&key=abc to confirm.", "https://acme.example/confirm?id=7&key=abc"),
        (
            "Confirm: https://acme.example/c/aaaabbbbccccdddd1\nDid not sign up? https://acme.example/cancel/aaaabbbbcccc1",
            "https://acme.example/c/aaaabbbbccccdddd1",
        ),
        ("Confirm your mail\n<https://acme.example/confirm/1>\nHelp: https://acme.example/help", "https://acme.example/confirm/1"),
    ],
)  # fmt: skip
def test_links_in_plain_text_are_judged_by_the_words_before_them(text: str, address: str) -> None:
    assert extract_codes(subject="Welcome", text=text).verification_link == address


@pytest.mark.parametrize(
    "text",
    [
        "Our newsletter: https://acme.example/blog/how-to-verify-anything\nUnsubscribe: https://a.example/unsub?t=1234567890abcdef12",
        "Read more at https://acme.example/ or https://acme.example/products/shoes",
        "See https://github.com/acme/repo/pull/12",
        "javascript:alert(1) ftp://acme.example/verify",
        "Didn't request this? https://acme.example/report/verify?t=0123456789abcdef01",
    ],
)
def test_other_links_are_no_verification_links(text: str) -> None:
    assert extract_codes(subject="News", text=text).verification_link is None


@pytest.mark.parametrize(
    "text",
    [
        "code " * 200_000,
        "1" * 1_000_000,
        "1 " * 500_000,
        "A-" * 500_000,
        "code is " + "-" * 500_000,
        "a" * 500_000 + "@",
        "https://" * 100_000,
        "https://a.example/" + "verify" * 100_000,
        "\n" * 500_000,
        "1\n" * 500_000,
        "did not " * 100_000 + "https://a.example/x",
        "\ufdfa" * 200_000,
        "order number " * 50_000 + "123456",
    ],
)
def test_hostile_texts_cost_little(text: str) -> None:
    began = time.process_time()
    extract_codes(subject=text, text=text, html=text)
    assert time.process_time() - began < 2


def test_odd_input_raises_nothing() -> None:
    assert extract_codes(subject="", text="") == Extracted(None, None)
    assert extract_codes(subject="\ud800", text="\ud800 https://[::1/verify code 1234") is not None
