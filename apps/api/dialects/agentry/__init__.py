"""The dialect of Agentry and of AgentMail, whose API Agentry took over: one tree, mounted twice."""
