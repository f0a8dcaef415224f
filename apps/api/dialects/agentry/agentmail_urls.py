"""AgentMail's mount of the same calls: without `agent/`, and with AgentMail's own fields."""

from django.urls import URLPattern, URLResolver, include, path

from apps.api.dialects.agentry.urls import OPERATIONS, TREE

__all__ = ["OPERATIONS", "urlpatterns"]

urlpatterns: list[URLPattern | URLResolver] = [path("", include(TREE), {"is_agentmail": True})]
