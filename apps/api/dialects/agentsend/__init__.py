"""AgentSend's API, spoken by us."""
