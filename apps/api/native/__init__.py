"""The native REST API under /v1. Its dialect-speaking siblings translate to and from it."""
