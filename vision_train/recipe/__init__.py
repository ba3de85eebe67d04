"""Recipe files: from YAML on disk to a checked, typed ``Recipe``."""
