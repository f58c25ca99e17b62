"""The user's own Python around the model: `before` makes the model's inputs, `after` makes the answer.

    client's tensors ─▶ before ─▶ the model's coalescer ─▶ after ─▶ answer

Each is a stage with a coalescer of its own, so that the device computes while Python prepares the next batch, and one
request's exception is that request's alone. `around` joins them, `starting` makes and checks them before the first
request. Knows neither Ray nor HTTP.
"""
