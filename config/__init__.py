"""The roof: how the product is wired together. Nothing below imports from here."""
