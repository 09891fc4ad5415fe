"""How the tests compile."""

UNOPTIMIZED = "--xla_backend_optimization_level=0"
"""A test runs a program once or twice. LLVM's optimisation takes a good part of a compilation, and does not pay."""

EIGHT_DEVICES = f"{UNOPTIMIZED} --xla_force_host_platform_device_count=8"
