"""The Open Inference Protocol (KServe v2), as Triton's own clients speak it."""
