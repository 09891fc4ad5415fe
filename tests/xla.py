"""How tests compile in processes of their own."""

UNOPTIMIZED = "--xla_backend_optimization_level=0"
"""They run a program a few times. LLVM's optimisation takes a good part of a compilation, and does not pay."""

EIGHT_DEVICES = f"{UNOPTIMIZED} --xla_force_host_platform_device_count=8"
