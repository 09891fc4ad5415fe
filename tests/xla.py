"""How tests compile in processes of their own."""

from importlib.metadata import version

OLD_EMITTERS = " --xla_cpu_use_fusion_emitters=false" if version("jaxlib").startswith(("0.8.", "0.9.", "0.10.")) else ""
"""Later versions do not know the flag, and would end."""

UNOPTIMIZED = f"--xla_backend_optimization_level=0{OLD_EMITTERS}"
"""They run a program a few times. LLVM's optimisation takes a good part of a compilation, and does not pay; nor do the
emitters of fused loops that go by way of MLIR."""

EIGHT_DEVICES = f"{UNOPTIMIZED} --xla_force_host_platform_device_count=8"

SAME_BITS = "--xla_backend_optimization_level=0 --xla_force_host_platform_device_count=8"
"""For tests that unlike programs round alike, which they do not by the old emitters."""
