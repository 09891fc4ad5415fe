"""Knowledge distillation for sensing-aided mmWave beam tracking."""

__version__ = "0.1.0"
