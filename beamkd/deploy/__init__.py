"""Networks as files that run without JAX (extra `deploy`)."""

from beamkd.deploy.convert import logits_of, stream_to_onnx, to_onnx, to_stablehlo
from beamkd.deploy.int8 import to_int8
from beamkd.deploy.trial import Trial, try_out

__all__ = ["Trial", "logits_of", "stream_to_onnx", "to_int8", "to_onnx", "to_stablehlo", "try_out"]
