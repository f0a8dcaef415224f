"""PostgreSQL and Redis as part of a copy: real servers whose data lives in MAILHOST_STATE alone."""
