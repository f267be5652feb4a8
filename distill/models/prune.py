"""placeholder"""
from distill.settings import Settings
class PruneSettings(Settings):
    ratio: float = 0.2
