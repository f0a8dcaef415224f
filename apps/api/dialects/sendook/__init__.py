"""The dialect of Sendook."""
