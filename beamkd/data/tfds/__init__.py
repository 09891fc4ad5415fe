"""Drives as TFDS datasets, built and read without TensorFlow.

Builders are in `street` and `deepsense6g`; to import one registers it with TFDS. `source` reads what they prepared.
`tensorflow_datasets` is imported by these alone, so that who does not use them does not wait for it.
"""
