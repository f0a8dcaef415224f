"""The dialect of Postern."""
