"""Views by resource. Each handler reads its input, calls one service or selector, and shapes the answer."""
