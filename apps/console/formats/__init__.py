"""How the admin writes times: one way, which sorts and needs no guessing."""
