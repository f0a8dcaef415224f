"""The dialect of AgentSend."""
