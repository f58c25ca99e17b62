"""Ray's workers as forks of a process that has imported what they need: they begin in milliseconds, and share memory.

Every worker of Ray's imports Ray and Serve, and a model's replica TensorFlow: seconds of work and 300 MB each, alike in
all of them. `solo serve` starts a zygote beside its own cluster instead (`launching`), which imports once and forks
(`forking`); Ray runs `worker` in its own worker's place, which asks for a fork. Whatever is not as expected, a worker
imports for itself, as Ray's own do.
"""
