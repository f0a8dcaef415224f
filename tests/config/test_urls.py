"""The addresses that belong to no app."""

from django.test import Client


def test_the_root_leads_to_the_documentation() -> None:
    answer = Client().get("/")
    assert (answer.status_code, answer.headers["Location"]) == (302, "/docs")
