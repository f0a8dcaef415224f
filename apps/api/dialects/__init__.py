"""The vendors' APIs, spoken by us: a folder per vendor, each with the same files. See README.md."""
