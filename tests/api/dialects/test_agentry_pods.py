"""Pods at Agentry's mount and at AgentMail's, and the inboxes within one."""

from typing import Any
from uuid import UUID

import pytest

from tests.api.dialects.agentry import (
    Agent,
    check_message,
    check_problems,
)

pytestmark = pytest.mark.django_db


class TestPods:
    def test_a_pods_life(self, anywhere: Agent) -> None:
        answer = anywhere.ask("POST", "/v0/pods", {"name": "Customer A", "client_id": "a"})
        assert answer.status_code == 200
        pod = answer.json()
        assert set(pod) == {"pod_id", "name", "client_id", "created_at", "updated_at"}
        assert (pod["name"], pod["client_id"], str(UUID(pod["pod_id"]))) == ("Customer A", "a", pod["pod_id"])
        assert anywhere.ask("POST", "/v0/pods", {"client_id": "a"}).json() == pod
        assert anywhere.get(f"/v0/pods/{pod['pod_id']}").json() == pod
        answer = anywhere.ask("DELETE", f"/v0/pods/{pod['pod_id']}")
        assert (answer.status_code, answer.content) == (200, b"")
        for method in ("GET", "DELETE"):
            assert anywhere.ask(method, f"/v0/pods/{pod['pod_id']}").status_code == 404

    def test_the_list_pages_newest_first_and_begins_with_the_default_pod(self, anywhere: Agent) -> None:
        page = anywhere.get("/v0/pods").json()
        assert (page["count"], page["limit"], page["pods"][0]["name"]) == (1, 20, "Default")
        made = [page["pods"][0]["pod_id"]]
        made += [anywhere.ask("POST", "/v0/pods", {"name": name}).json()["pod_id"] for name in "ab"]
        first = anywhere.get("/v0/pods?limit=2").json()
        rest = anywhere.get(f"/v0/pods?limit=2&page_token={first['next_page_token']}").json()
        assert [pod["pod_id"] for pod in first["pods"] + rest["pods"]] == made[::-1]
        assert anywhere.get("/v0/pods?ascending=true").json()["pods"][0]["pod_id"] == made[0]

    @pytest.mark.parametrize(
        ("body", "field"),
        [
            ({"name": 1}, "name"),
            ({"name": "x" * 201}, "name"),
            ({"name": "a\nb"}, "name"),
            ({"client_id": ""}, "client_id"),
            ({"client_id": "x" * 257}, "client_id"),
            (b"[]", "body"),
        ],
    )
    def test_wrong_pods_are_named(self, agent: Agent, body: Any, field: str) -> None:
        check_problems(agent.ask("POST", "/v0/pods", body), field)

    def test_a_pod_needs_no_name(self, agent: Agent) -> None:
        assert agent.ask("POST", "/v0/pods").json()["name"]
        assert agent.ask("POST", "/v0/pods", {"client_id": "x" * 256}).json()["name"] == "x" * 200

    def test_its_inboxes_are_a_world_of_their_own(self, anywhere: Agent) -> None:
        outside = anywhere.create()["inbox_id"]
        pod = anywhere.ask("POST", "/v0/pods", {"name": "A"}).json()["pod_id"]
        inside = f"/v0/pods/{pod}/inboxes"
        made = [anywhere.ask("POST", inside, {"username": name}).json() for name in "ab"]
        assert all(inbox["pod_id"] == pod for inbox in made)
        page = anywhere.get(f"{inside}?limit=1").json()
        rest = anywhere.get(f"{inside}?limit=1&page_token={page['next_page_token']}").json()
        assert page["inboxes"] + rest["inboxes"] == made[::-1]
        assert "next_page_token" not in rest
        assert anywhere.get(f"{inside}/a@agents.localhost").json() == made[0]
        assert anywhere.get("/v0/inboxes/a@agents.localhost").json() == made[0]
        changed = anywhere.ask("PATCH", f"{inside}/a%40agents.localhost", {"display_name": "A"}).json()
        assert (changed["display_name"], changed["pod_id"]) == ("A", pod)
        for method in ("GET", "PATCH", "DELETE"):
            assert anywhere.ask(method, f"{inside}/{outside}", {"display_name": "x"}).status_code == 404
        assert anywhere.ask("DELETE", f"{inside}/a@agents.localhost").status_code == 200
        assert anywhere.get(inside).json()["count"] == 1

    def test_one_with_inboxes_is_kept_until_they_are_deleted(self, anywhere: Agent) -> None:
        pod = f"/v0/pods/{anywhere.ask('POST', '/v0/pods', {'name': 'A'}).json()['pod_id']}"
        inbox = anywhere.ask("POST", f"{pod}/inboxes").json()["inbox_id"]
        answer = anywhere.ask("DELETE", pod)
        assert (answer.status_code, answer.json()["name"]) == (409, "ConflictError")
        assert anywhere.ask("DELETE", f"{pod}/inboxes/{inbox}").status_code == 200
        assert anywhere.ask("DELETE", pod).status_code == 200

    def test_the_default_pod_is_kept(self, agent: Agent) -> None:
        pod = agent.get("/v0/pods").json()["pods"][0]["pod_id"]
        check_message(agent.ask("DELETE", f"/v0/pods/{pod}"), 409, "ConflictError")

    def test_a_stranger_finds_nothing(self, agent: Agent, stranger_agent: Agent) -> None:
        pod = f"/v0/pods/{agent.ask('POST', '/v0/pods', {'name': 'A'}).json()['pod_id']}"
        for method, path in [("GET", pod), ("DELETE", pod), ("GET", f"{pod}/inboxes"), ("POST", f"{pod}/inboxes")]:
            check_message(stranger_agent.ask(method, path), 404, "NotFoundError")
        assert agent.get(pod).status_code == 200

    @pytest.mark.parametrize("pod_id", ["x", "%00", "pod_01h455vb4pex5vsknk084sn02q", "0" * 36])
    def test_what_is_no_pods_id_is_404(self, agent: Agent, pod_id: str) -> None:
        check_message(agent.get(f"/v0/pods/{pod_id}"), 404, "NotFoundError")
