"""What a webhook may be: where it may go (targets), and what its requests look like (formats)."""
